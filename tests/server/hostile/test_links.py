"""Signed links: each is worth what the token that asked for it may now, and dies with it."""

import hashlib
import os
from urllib.parse import urlsplit

import httpx2
import pytest

from commentary_hub_server.rules.repositories import Change
from commentary_hub_server.rules.xet import from_text, xorb_key
from tests.server.hub.running import running
from tests.server.xet.test_hostile import LEAVES, NAME, PARTS, XORB, accept_xorb, shard

BATCH = "/datasets/ada/set.git/info/lfs/objects/batch"


@pytest.fixture
def hub(tmp_path):
    with running(tmp_path) as one:
        one.ada = one.token("ada")
        one.repo = one.world.repositories.create("dataset", "ada", "set", private=True)
        yield one


def asked(hub, method, path, **settings):
    headers = {"Authorization": f"Bearer {hub.ada}"}
    return httpx2.request(method, f"{hub.url}{path}", headers=headers, timeout=30, **settings).json()


def revoke(hub):
    for one in hub.world.directory.tokens("ada"):
        hub.world.directory.revoke_token("ada", one.id)


def test_no_upload_goes_on_by_a_link_of_a_token_that_was_revoked(hub, monkeypatch):
    from commentary_hub_server.routes.hub import _lfs

    monkeypatch.setattr(_lfs, "MULTIPART_BYTES", 1 << 20)
    small, large = os.urandom(1000), os.urandom((1 << 20) + 1)
    objects = [{"oid": hashlib.sha256(one).hexdigest(), "size": len(one)} for one in (small, large)]
    ask = {"operation": "upload", "transfers": ["basic", "multipart"], "objects": objects}
    single, parts = (one["actions"] for one in asked(hub, "POST", BATCH, json=ask)["objects"])
    numbered = {int(name): url for name, url in parts["upload"]["header"].items() if name.isdecimal()}
    assert httpx2.put(numbered[1], content=large[: 1 << 20]).status_code == 200
    revoke(hub)

    def tried():
        return [
            httpx2.put(single["upload"]["href"], content=small).status_code,
            httpx2.put(numbered[2], content=large[1 << 20 :]).status_code,
            httpx2.post(parts["upload"]["href"], json={}).status_code,
            httpx2.post(parts["verify"]["href"], json={}).status_code,
        ]

    assert tried() == [404] * 4  # to a stranger, a private repository is missing
    hub.world.repositories.set_private(hub.repo, private=False)
    assert tried() == [403] * 4
    assert hub.world.history.holds(hub.repo, objects[0]["oid"]) is None


def test_no_bytes_of_a_xorb_are_read_by_a_link_of_a_token_that_was_revoked(hub):
    token = hub.world.directory.by_token(hub.ada).token_id
    number = str(hub.repo.id)
    scope = hub.world.xet.scope(asked(hub, "GET", "/api/datasets/ada/set/xet-write-token/main")["accessToken"])
    assert (scope.repo, scope.token) == (number, token)
    accept_xorb(hub.world.xet, scope, NAME, XORB)
    hub.world.xet.accept_shard(scope, shard())
    sha256 = hashlib.sha256(b"".join(PARTS)).hexdigest()
    name, size = hub.world.xet.by_sha256(number, sha256)
    hub.world.history.note_upload(hub.repo, sha256, size, xet=name)
    hub.world.history.commit(hub.repo, "main", [Change("a.bin", sha256=sha256)], title="t", author="ada")
    given = asked(hub, "GET", "/api/datasets/ada/set/xet-read-token/main")
    access, path = {"Authorization": f"Bearer {given['accessToken']}"}, urlsplit(given["casUrl"]).path
    answer = httpx2.get(f"{hub.url}{path}/v1/reconstructions/{name}", headers=access).json()
    ((entry,),) = answer["fetch_info"].values()
    found = httpx2.get(entry["url"])
    assert (found.status_code, found.content) == (206, XORB)
    assert len(LEAVES) == entry["range"]["end"]
    (xorb,) = answer["fetch_info"]
    hub.world.objects.delete(xorb_key(from_text(xorb)))
    assert httpx2.get(entry["url"]).status_code == 404  # collected meanwhile
    revoke(hub)
    assert httpx2.get(entry["url"]).status_code == 403
    hub.world.repositories.set_private(hub.repo, private=False)
    assert httpx2.get(entry["url"]).status_code == 404  # a stranger may read it now
    hub.world.repositories.delete(hub.repo)
    assert httpx2.get(entry["url"]).status_code == 403
