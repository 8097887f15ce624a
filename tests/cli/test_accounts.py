"""Administering a hub from the command line: every answer also as JSON, and what it says is so."""

import io
import json
import sys

import pytest

from commentary_hub_server.app import open_world
from commentary_hub_server.settings import Settings
from tests.cli.test_errors import one_line


@pytest.fixture
def hub(call, tmp_path):
    """A call on a hub where ada administers the organisation lab."""
    folder = tmp_path / "data"

    def run(*arguments):
        return call(*arguments, "--data-dir", folder)

    for arguments in (("user", "add", "ada", "--token", "hf_of_ada"), ("org", "add", "lab", "--member", "ada")):
        code, _, err = run(*arguments)
        assert code == 0, err
    run.directory = open_world(Settings(data_dir=folder)).directory
    return run


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("user", "quota", "ada", "1000"), {"owner": "ada", "quota_bytes": 1000}),
        (("user", "quota", "lab"), {"owner": "lab", "quota_bytes": None}),
        (("user", "disable", "ada"), {"user": "ada", "disabled": True}),
        (("org", "remove", "lab", "ada"), {"org": "lab", "removed": "ada"}),
        (("token", "revoke", "ada", "1"), {"user": "ada", "revoked": 1}),
    ],
)
def test_programs_are_answered_in_json(hub, arguments, answer):
    code, out, err = hub(*arguments, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == answer
    assert "{" not in hub("user", "list")[1]


def test_a_backup_answers_in_json_too(hub, tmp_path):
    code, out, err = hub("backup", tmp_path / "copy", "--json")
    assert code == 0, err
    assert json.loads(out) == {"folder": str(tmp_path / "copy")}
    assert (tmp_path / "copy").is_dir()


def test_a_password_is_set_from_standard_input(hub, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("correct horse\n"))
    code, out, _ = hub("user", "password", "ada", "--password-stdin", "--json")
    assert (code, json.loads(out)) == (0, {"user": "ada"})
    assert hub.directory.check_password("ada", "correct horse") == "ada"
    monkeypatch.setattr(sys, "stdin", io.StringIO("short\n"))
    code, out, err = hub("user", "password", "ada", "--password-stdin")
    assert (code, out) == (1, "")
    one_line(err, "at least 8 characters")
    monkeypatch.setattr(sys, "stdin", io.StringIO("correct horse\n"))
    code, _, err = hub("user", "password", "nobody", "--password-stdin")
    assert code == 1
    one_line(err, "nobody")
    assert hub.directory.check_password("ada", "correct horse") == "ada"


def test_without_a_pipe_the_password_is_asked_for_twice(hub, monkeypatch):
    asked = []
    monkeypatch.setattr("getpass.getpass", lambda prompt, stream=None: asked.append(prompt) or "correct horse")
    code, out, _ = hub("user", "password", "ada")
    assert (code, out) == (0, "set the password of ada\n")
    assert len(asked) == 2
    assert hub.directory.check_password("ada", "correct horse") == "ada"


def test_a_disabled_user_is_let_in_again_by_what_the_command_names(hub):
    code, out, _ = hub("user", "disable", "ada")
    assert code == 0
    assert out == "disabled ada; 'commentary-hub token create ada' or a new password lets them in again\n"
    with pytest.raises(PermissionError):
        hub.directory.by_token("hf_of_ada")
    secret = hub("token", "create", "ada")[1].strip()
    assert hub.directory.by_token(secret).writes == {"ada"}


def test_a_token_that_is_not_there_was_not_revoked(hub):
    code, out, err = hub("token", "revoke", "ada", "99")
    assert (code, out) == (1, "")
    one_line(err, "ada has no token 99", "token list ada")
    hub.directory.by_token("hf_of_ada")
