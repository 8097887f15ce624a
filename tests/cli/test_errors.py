"""What goes wrong is said in one line, with what, which and what to do; exit codes tell failure from wrong use."""

import json
import shutil
import socket

import pytest

from tests.cli.test_cycle import RECIPE, ROOT

GOLDEN = ROOT / "tests" / "golden" / "format-1"


def one_line(err, *words):
    assert err.startswith("error: "), err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in err, err


def test_a_folder_without_a_manifest(call, tmp_path):
    code, out, err = call("push", tmp_path, "ada/x")
    assert (code, out) == (1, "")
    one_line(err, str(tmp_path), "commentary.json")


def test_a_file_that_was_changed(call, tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "a")
    tensors = tmp_path / "a" / "commentary.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x01")
    code, _, err = call("show", tmp_path / "a")
    assert code == 1
    one_line(err, "commentary.safetensors")


def test_a_manifest_of_a_newer_format(call, tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "a")
    manifest = json.loads((tmp_path / "a" / "commentary.json").read_text())
    (tmp_path / "a" / "commentary.json").write_text(json.dumps(manifest | {"format_version": 2}))
    code, _, err = call("show", tmp_path / "a")
    assert code == 1
    one_line(err, "format version 2", "upgrade")


def test_programs_get_the_error_as_json(call, tmp_path):
    code, out, err = call("show", tmp_path, "--json")
    assert code == 1
    assert json.loads(out)["error"] == "ManifestMissing"
    one_line(err)


def test_a_hub_that_is_down(call, monkeypatch):
    import huggingface_hub.constants

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", nowhere)
        monkeypatch.setenv("HF_TOKEN", "hf_any")
        code, _, err = call("push", GOLDEN, "ada/x")
    assert code == 1
    one_line(err, nowhere, "HF_ENDPOINT")


def test_a_port_in_use(call, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = call("serve", "--port", taken.getsockname()[1], "--data-dir", tmp_path)
    assert code == 1
    one_line(err, "in use", "--port")
    assert not list(tmp_path.iterdir()), "nothing is written before the port is ours"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('kind = "example_weights"', 'kind = "nothing"'), ["nothing", "example_weights"]),
        (("steps = 5", 'steps = "five"'), ["inner.steps"]),
        (("[method]", "[methods]"), ["method"]),
        (("sklearn:digits", "no/such/folder"), ["no/such/folder"]),
        (("train = 120", "train = 9000"), ["9000", "1797"]),
        (('name = "unrolled"', 'name = "unrolled"\nsettings = { memory = "little" }'), ["method.settings", "little"]),
        (("classes = 10", "classes = 4"), ["mlp", "labels"]),
    ],
)
def test_a_recipe_that_describes_no_run(call, tmp_path, change, words):
    (tmp_path / "recipe.toml").write_text(RECIPE.replace(*change))
    code, _, err = call("learn", tmp_path / "recipe.toml", "--out", tmp_path / "out")
    assert code == 1
    one_line(err, *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [("push",), ("nonsense",), ("pull", "not a reference"), ("serve", "--port", "x")])
def test_wrong_use_has_another_exit_code(call, arguments):
    assert call(*arguments)[0] == 2


def test_users_are_added_while_the_data_is_served_and_their_token_is_shown_once(call, tmp_path):
    code, out, _ = call("user", "add", "ada", "--token", "hf_given", "--data-dir", tmp_path, "--json")
    assert (code, json.loads(out)) == (0, {"user": "ada", "token": "hf_given"})
    code, out, err = call("user", "add", "ADA", "--data-dir", tmp_path)
    assert code == 1
    one_line(err, "ADA exists")
    code, out, _ = call("org", "add", "lab", "--member", "ada", "--data-dir", tmp_path)
    assert code == 0
    code, out, _ = call("token", "create", "ada", "--role", "read", "--data-dir", tmp_path)
    assert code == 0
    assert out.startswith("hf_")
    code, _, err = call("token", "create", "nobody", "--data-dir", tmp_path)
    assert code == 1
    one_line(err, "nobody")


def test_what_strangers_wrote_does_not_move_the_cursor(call, tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "a")
    path = tmp_path / "a" / "commentary.json"
    manifest = json.loads(path.read_text())
    manifest["description"] = "mine\x1b]0;OWNED\x07\x1b[2J \x1b]8;;http://evil\x1b\\click\u202e [/x] [bold]"
    manifest["dataset"]["identity"]["id"] = "[/x]\x1b[31m"
    path.write_text(json.dumps(manifest))
    code, out, err = call("show", tmp_path / "a")
    assert code == 0, err
    assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert "[/x]" in out
    assert "[bold]" in out
    code, _, err = call("show", tmp_path / "not\x1b[2Jthere" / "x")
    assert code != 0
    assert "\x1b" not in err.removeprefix("\x1b[31m").removesuffix("\x1b[0m\n")
