"""Finding: by the catalogue where a hub has one, by tags on a plain Hugging Face hub; the same from the shell."""

import json
import random

import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils import get_session
from typer.testing import CliRunner

from commentary_hub import hub
from commentary_hub.cli import build_app as build_commands
from commentary_hub.errors import HubUnreachable, InputError
from commentary_hub.manifest import FileDigest
from commentary_hub_server.app import build_app
from tests.browser.serving import listening
from tests.server.catalogue.artefacts import artefact
from tests.server.hub.running import running


def write(folder, name, kind, dataset, *, measured=True):
    """An artefact on disk whose manifest vouches for every file."""
    manifest, _, files = artefact(name, kind, dataset, random.Random(1), rows=80, measured=measured)
    folder.mkdir(parents=True)
    for path, data in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(data)
    names = [path for path in files if path != "commentary.json"]
    digests = {path: FileDigest.of_file(folder / path) for path in names}
    (folder / "commentary.json").write_text(manifest.model_copy(update={"files": digests}).to_json())
    return folder


def without_the_catalogue(whole):
    """The same hub as one that has never heard of commentaries."""

    async def plain(scope, receive, send):
        if scope["type"] == "http" and scope["path"].startswith("/api/commentaries"):
            scope = {**scope, "path": "/api/nothing", "raw_path": b"/api/nothing"}
        await whole(scope, receive, send)

    return plain


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    folder = tmp_path_factory.mktemp("find")
    with running(folder / "data") as one:
        one.secret = one.token("ada")
        for name, kind, dataset in (
            ("digit-weights", "example_weights", "sklearn/digits"),
            ("digit-blend", "label_blend", "sklearn/digits"),
            ("picture-weights", "example_weights", "uoft-cs/cifar10"),
        ):
            hub.push(write(folder / name, name, kind, dataset), f"ada/{name}", endpoint=one.url, token=one.secret)
        with listening(without_the_catalogue(build_app(one.world.settings, one.world))) as plain:
            one.plain = plain
            yield one


def names(found):
    return sorted(one.repo_id for one in found)


def test_both_kinds_of_hub_find_the_same_by_dataset_and_kind(there):
    assert get_session().get(f"{there.plain}/api/commentaries").status_code == 404
    for endpoint in (there.url, there.plain):
        assert names(hub.find("sklearn/digits", endpoint=endpoint)) == ["ada/digit-blend", "ada/digit-weights"]
        assert names(hub.find(kind="label_blend", endpoint=endpoint)) == ["ada/digit-blend"]
        assert names(hub.find(search="picture", endpoint=endpoint)) == ["ada/picture-weights"]
        assert hub.find("no/such", endpoint=endpoint) == []
        assert len(hub.find(limit=2, endpoint=endpoint)) == 2
        for one in hub.find(endpoint=endpoint):
            assert one.kind in {"example_weights", "label_blend"}
            assert one.dataset in {"sklearn/digits", "uoft-cs/cifar10"}


def test_the_catalogue_tells_the_gain_and_tags_cannot(there):
    best, *rest = hub.find("sklearn/digits", endpoint=there.url)
    assert best.gain_ci95[0] < best.gain < best.gain_ci95[1]
    assert all(best.gain >= one.gain for one in rest)
    assert all(len(one.revision) == 40 for one in (best, *rest))
    assert best.outcome in {"helps", "hurts", "no_difference"}
    assert [one.gain for one in hub.find("sklearn/digits", endpoint=there.plain)] == [None, None]


def test_pages_are_followed_until_the_limit(there, monkeypatch):
    monkeypatch.setattr("commentary_hub.hub._find.MAX_PAGE", 1)
    assert len(names(hub.find(endpoint=there.url))) == 3
    assert len(names(hub.find(endpoint=there.url, limit=2))) == 2
    with pytest.raises(InputError, match="at least one"):
        hub.find(limit=0)


def test_a_hub_that_does_not_answer_is_named(there):
    with pytest.raises(HubUnreachable, match=r"127\.0\.0\.1:1"):
        hub.find(endpoint="http://127.0.0.1:1")


def test_private_ones_are_found_by_their_owner_alone(there):
    HfApi(endpoint=there.url, token=there.secret).update_repo_settings(
        "ada/picture-weights", repo_type="dataset", private=True
    )
    for endpoint in (there.url, there.plain):
        assert "ada/picture-weights" in names(hub.find(endpoint=endpoint, token=there.secret))
        assert "ada/picture-weights" not in names(hub.find(endpoint=endpoint, token=False))
    HfApi(endpoint=there.url, token=there.secret).update_repo_settings(
        "ada/picture-weights", repo_type="dataset", private=False
    )


@pytest.mark.parametrize("kind", ["url", "plain"])
def test_the_shell_finds_the_same(there, monkeypatch, kind):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", getattr(there, kind))
    answer = CliRunner().invoke(build_commands(), ["find", "sklearn/digits", "--json"], catch_exceptions=False)
    printed = answer.stdout.splitlines()[-1]  # above it stands the log of the hub, which runs in this process
    assert sorted(one["repo_id"] for one in json.loads(printed)) == ["ada/digit-blend", "ada/digit-weights"]
    table = CliRunner().invoke(build_commands(), ["find", "--kind", "label_blend"], catch_exceptions=False)
    assert "ada/digit-blend" in table.stdout.replace("\n", "")
    assert "no commentaries found" in CliRunner().invoke(build_commands(), ["find", "no/such"]).stdout
