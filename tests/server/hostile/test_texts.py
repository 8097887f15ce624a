"""Texts that no database holds, and values of the wrong type: the sender's fault on each database, never a 500."""

import base64
import json
import random
import uuid

import pytest
from sqlalchemy import create_engine, text

from commentary_hub_server.rules.repositories import _listing
from tests.server.catalogue.artefacts import artefact
from tests.server.hostile.test_requests import raw
from tests.server.hub.running import running

pytestmark = pytest.mark.xdist_group("storage")
NUL, HALF = "\0", "\ud800"
SET = "/api/datasets/ada/set"
BATCH = "/datasets/ada/set.git/info/lfs/objects/batch"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def hub(request, tmp_path_factory):
    database = ""
    if request.param == "postgresql":
        host, name = request.getfixturevalue("postgresql_host"), f"t{uuid.uuid4().hex[:12]}"
        admin = create_engine(f"postgresql+psycopg://hub@/postgres?host={host}", isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        admin.dispose()
        database = f"postgresql://hub@/{name}?host={host}"
    with running(tmp_path_factory.mktemp("hub"), database_url=database) as one:
        one.ada = one.token("ada")
        one.world.repositories.create("dataset", "ada", "set", private=False)
        yield one


def send(hub, method, path, body):
    """The status; a list of lines goes as a commit does."""
    lines = body if isinstance(body, list) else [body]
    data = "\n".join(json.dumps(line) for line in lines).encode()
    return raw(hub, method, path, data, {"Content-Type": "application/json"})[0]


def commit(*files, **header):
    lines = [{"key": "header", "value": {"summary": "x"} | header}]
    return lines + [
        {"key": "file", "value": {"path": path, "content": base64.b64encode(data).decode()}} for path, data in files
    ]


@pytest.mark.parametrize("bad", [NUL, HALF], ids=["nul", "half a character"])
def test_no_text_in_a_body_is_the_hubs_failure(hub, bad):
    for method, path, body in (
        ("POST", "/api/repos/create", {"name": bad, "type": "dataset"}),
        ("POST", "/api/repos/create", {"name": "x", "organization": bad, "type": "dataset"}),
        ("DELETE", "/api/repos/delete", {"name": f"ada/{bad}", "type": "dataset"}),
        ("DELETE", "/api/repos/delete", {"name": "ada/x", "type": bad}),
        ("POST", "/api/repos/move", {"fromRepo": "ada/set", "toRepo": f"{bad}/x", "type": "dataset"}),
        ("POST", f"{SET}/commit/main", commit((f"a{bad}", b"x"))),
        ("POST", f"{SET}/commit/main", commit(("b", bad.encode(errors="replace")), parentCommit=bad)),
        ("POST", f"{SET}/preupload/main", {"files": [{"path": bad, "size": 1}]}),
        ("POST", f"{SET}/branch/side", {"startingPoint": bad}),
        ("POST", f"{SET}/tag/main", {"tag": bad}),
        ("POST", f"{SET}/lfs-files/duplicate", {"target": {"type": "dataset", "name": f"{bad}/set"}, "files": []}),
        ("POST", f"{SET}/lfs-files/batch", {"deletions": {"sha": [bad]}}),
    ):
        assert send(hub, method, path, body) in {400, 403, 404, 409, 412}, (path, body)
    for path, body in (  # what may be text of any kind, where the database takes it
        (f"{SET}/commit/main", commit(("c", bad.encode(errors="replace")), summary=bad)),
        (f"{SET}/super-squash/main", {"summary": bad}),
        (f"{SET}/lfs-files/duplicate", {"target": {"type": "dataset", "name": "ada/set"}, "files": [{"sha256": bad}]}),
        (BATCH, {"operation": "upload", "objects": [{"oid": bad, "size": 1}]}),
    ):
        assert send(hub, "POST", path, body) in {200, 400}, (path, body)


@pytest.mark.parametrize(
    "path",
    ["/api/datasets/%00/x", f"{SET}/revision/%00", f"{SET}/commits/%00", "/api/datasets?author=%00",
     "/api/datasets?search=%00", "/api/datasets?filter=%00", "/api/commentaries?owner=%00",
     "/api/commentaries/datasets?prefix=%00", "/api/commentaries/%00/x", "/api/commentaries/compare?id=%00/a&id=b/c",
     "/for/%00", "/owners/%00", "/compare?id=%00/x&id=a/b", "/datasets/ada/%00", "/datasets/ada/set/tree/%00",
     "/datasets/ada/set/difference?before=%00", "/api/users/%00/overview", "/api/organizations/%00/members",
     "/datasets/ada/set/resolve/%00/a.txt", "/?search=%00", "/?search=" + "x" * 5000, "/for/" + "x" * 5000],
)  # fmt: skip
def test_no_text_in_an_address_is_the_hubs_failure(hub, path):
    assert raw(hub, "GET", path)[0] in {200, 400, 404}


@pytest.mark.parametrize("odd", [[], {}, 5, True, None, 1.5])
def test_no_type_is_the_hubs_failure(hub, odd):
    for method, path, body in (
        ("POST", BATCH, {"operation": odd}),
        ("POST", BATCH, {"operation": "upload", "objects": [], "transfers": odd}),
        ("POST", BATCH, {"operation": "upload", "objects": [{"oid": odd, "size": odd}], "transfers": ["multipart"]}),
        ("PUT", f"{SET}/settings", {"visibility": odd}),
        ("POST", "/api/repos/create", {"name": "set", "type": "dataset", "visibility": odd}),
        ("POST", f"{SET}/lfs-files/batch", {"deletions": odd}),
        ("POST", f"{SET}/lfs-files/duplicate", {"target": odd, "files": odd}),
        ("POST", f"{SET}/preupload/main", {"files": [{"path": odd, "size": odd, "sample": odd}]}),
        ("POST", f"{SET}/tag/main", {"tag": odd}),
        *(
            ("POST", f"{SET}/commit/main", [{"key": key, "value": dict.fromkeys(("path", "content", "oid"), odd)}])
            for key in ("file", "lfsFile", "deletedFile", "header")
        ),
    ):
        assert send(hub, method, path, body) in {200, 400, 403, 404, 409, 413, 422}, (path, body)


def test_what_a_manifest_says_at_length_is_kept_and_the_repository_says_why_it_is_not_listed(hub):
    _, _, files = artefact("weights", "example_weights", "sklearn/digits", random.Random(0), rows=20)
    chance = random.Random(0)
    for number, (said, changes) in enumerate(
        (
            ("dataset has more than 200", {"dataset": "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=4000))}),
            ("licence has more than 100", {"licence": "x" * 101}),
            ("holds a NUL", {"description": "a\0b"}),
            (None, {"dataset": "d" * 200}),
        )
    ):
        manifest = json.loads(files["commentary.json"])
        if "dataset" in changes:
            manifest["dataset"]["identity"]["id"] = changes.pop("dataset")
        sent = files | {"commentary.json": json.dumps(manifest | changes).encode()}
        name = f"long-{number}"
        assert send(hub, "POST", "/api/repos/create", {"name": name, "type": "dataset"}) == 200
        assert send(hub, "POST", f"/api/datasets/ada/{name}/commit/main", commit(*sent.items())) == 200
        status, _, reply = raw(hub, "GET", f"/api/commentaries/ada/{name}")
        assert status == (200 if said is None else 422)
        assert said is None or said in json.loads(reply)["error"]


def test_a_card_of_many_words_and_odd_tags_is_listed(hub):
    """PostgreSQL holds a mebibyte of words for each text."""
    _, _, files = artefact("weights", "example_weights", "sklearn/digits", random.Random(0), rows=20)
    words = " ".join(f"w{n:x}{n * 7919 % 999983:x}" for n in range(80_000)).encode()
    card = b'---\ntags: ["fine", "a\\0b", "\\ud800"]\n---\n' + words
    assert send(hub, "POST", "/api/repos/create", {"name": "words", "type": "dataset"}) == 200
    body = commit(*(files | {"README.md": card}).items())
    assert send(hub, "POST", "/api/datasets/ada/words/commit/main", body) == 200
    assert json.loads(raw(hub, "GET", "/api/commentaries?search=w0")[2])["items"][0]["id"] == "ada/words"
    assert not any(map(_listing._UNSTORABLE.search, json.loads(raw(hub, "GET", "/api/datasets/ada/words")[2])["tags"]))


def test_a_title_is_cut_however_a_commit_is_made(hub):
    assert (
        send(hub, "POST", f"{SET}/super-squash/main", {"summary": "s" * 100_000, "description": "d" * 100_000}) == 200
    )
    squashed = json.loads(raw(hub, "GET", f"{SET}/commits/main")[2])[0]
    assert (
        send(hub, "POST", f"{SET}/commit/main", commit(("t", b"t"), summary="s" * 9000, description="d" * 20_000))
        == 200
    )
    made = json.loads(raw(hub, "GET", f"{SET}/commits/main")[2])[0]
    assert {(len(one["title"]), len(one["message"])) for one in (squashed, made)} == {(500, 10_000)}
