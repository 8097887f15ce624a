"""Every route of the hub: a private repository looks like a missing one, and no token does more than it may.

The tables below name every route. A new route that is in none of them fails the first test.
"""

import contextlib
import hashlib
import itertools
import json
import re
import socket
import time

import httpx2
import pytest

from commentary_hub_server.app import build_app
from commentary_hub_server.rules.repositories import object_key
from commentary_hub_server.rules.xet import Scope, chunk_hash, to_text, xorb_hash
from tests.server.hub.running import running
from tests.server.xet.test_hostile import accept_xorb, chunk, lone_shard

SHA = hashlib.sha256(b"secret text").hexdigest()
PLACES = {
    "revision": "main", "revision:path": "main", "address:path": "main", "path": "a.txt",
    "path:path": "a.txt", "branch": "side", "tag": "v1",
    "inside": "x", "permission": "read",
}  # fmt: skip

# method and path of everything that reads a repository, for those who may
READS = """
GET /api/commentaries/{owner}/{name}
GET /api/commentaries/{owner}/{name}/rows
GET /api/{kind}s/{repo:path}/xet-{permission}-token/{revision:path}
GET /api/datasets/{owner}/{name}
GET /api/datasets/{owner}/{name}/revision/{revision}
GET /api/datasets/{owner}/{name}/auth-check
GET /api/datasets/{owner}/{name}/refs
GET /api/datasets/{owner}/{name}/commits/{revision}
GET /api/datasets/{owner}/{name}/tree/{revision}
GET /api/datasets/{owner}/{name}/tree/{revision}/{path:path}
POST /api/datasets/{owner}/{name}/paths-info/{revision}
GET /api/datasets/{owner}/{name}/lfs-files
GET /datasets/{owner}/{name}/resolve/{revision}/{path:path}
HEAD /datasets/{owner}/{name}/resolve/{revision}/{path:path}
GET /datasets/{owner}/{name}
GET /datasets/{owner}/{name}/tree/{address:path}
GET /datasets/{owner}/{name}/commit/{revision}
GET /datasets/{owner}/{name}/raw/{revision}/{path:path}
GET /datasets/{owner}/{name}/blob/{revision}/{path:path}
GET /datasets/{owner}/{name}/picture/{revision}/{path:path}
GET /datasets/{owner}/{name}/commits/{revision:path}
GET /datasets/{owner}/{name}/difference
GET /datasets/{owner}/{name}/commentaries/{inside}
GET /api/models/{owner}/{name}
GET /api/models/{owner}/{name}/revision/{revision}
GET /api/models/{owner}/{name}/auth-check
GET /api/models/{owner}/{name}/refs
GET /api/models/{owner}/{name}/commits/{revision}
GET /api/models/{owner}/{name}/tree/{revision}
GET /api/models/{owner}/{name}/tree/{revision}/{path:path}
POST /api/models/{owner}/{name}/paths-info/{revision}
GET /api/models/{owner}/{name}/lfs-files
GET /{owner}/{name}/resolve/{revision}/{path:path}
HEAD /{owner}/{name}/resolve/{revision}/{path:path}
GET /{owner}/{name}
GET /{owner}/{name}/tree/{address:path}
GET /{owner}/{name}/commit/{revision}
GET /{owner}/{name}/blob/{revision}/{path:path}
GET /{owner}/{name}/raw/{revision}/{path:path}
POST /api/datasets/{owner}/{name}/lfs-files/duplicate
POST /api/models/{owner}/{name}/lfs-files/duplicate
"""
# what changes one, by bearer token; with the body that would do it
WRITES = {
    "PUT /api/datasets/{owner}/{name}/settings": {"private": False},
    "GET /api/datasets/{owner}/{name}/auth-check/write": None,
    "POST /api/datasets/{owner}/{name}/branch/{branch}": {},
    "DELETE /api/datasets/{owner}/{name}/branch/{branch}": None,
    "POST /api/datasets/{owner}/{name}/tag/{revision}": {"tag": "v1"},
    "DELETE /api/datasets/{owner}/{name}/tag/{tag}": None,
    "POST /api/datasets/{owner}/{name}/super-squash/{branch}": {},
    "POST /api/datasets/{owner}/{name}/preupload/{revision}": {"files": []},
    "POST /api/datasets/{owner}/{name}/commit/{revision}": {"key": "header", "value": {"summary": "x"}},
    "POST /datasets/{owner}/{name}.git/info/lfs/objects/batch": {"operation": "upload", "objects": []},
    "POST /api/datasets/{owner}/{name}/lfs-files/batch": {"deletions": {"sha": [SHA]}},
    "PUT /api/models/{owner}/{name}/settings": {"private": False},
    "GET /api/models/{owner}/{name}/auth-check/write": None,
    "POST /api/models/{owner}/{name}/branch/{branch}": {},
    "DELETE /api/models/{owner}/{name}/branch/{branch}": None,
    "POST /api/models/{owner}/{name}/tag/{revision}": {"tag": "v1"},
    "DELETE /api/models/{owner}/{name}/tag/{tag}": None,
    "POST /api/models/{owner}/{name}/super-squash/{branch}": {},
    "POST /api/models/{owner}/{name}/preupload/{revision}": {"files": []},
    "POST /api/models/{owner}/{name}/commit/{revision}": {"key": "header", "value": {"summary": "x"}},
    "POST /{owner}/{name}.git/info/lfs/objects/batch": {"operation": "upload", "objects": []},
    "POST /api/models/{owner}/{name}/lfs-files/batch": {"deletions": {"sha": [SHA]}},
}
# named in the body: tested by hand below
BY_BODY = {"POST /api/repos/create", "DELETE /api/repos/delete", "POST /api/repos/move"}
# opened by a signed, expiring link or a Xet token; tested in xet/ and hub/
SIGNED = {
    "PUT /lfs/put/{token}", "PUT /lfs/part/{token}", "POST /lfs/complete/{token}", "POST /lfs/verify/{token}",
    "GET /lfs/{token}", *(f"{verb} /cas/{{place}}/v1/{rest}" for verb, rest in (
        ("GET", "xorb-bytes/{token}"), ("GET", "chunks/default/{digest}"), ("POST", "xorbs/default/{digest}"),
        ("POST", "shards"), ("GET", "reconstructions/{digest}"),
    )),
}  # fmt: skip
# opened by a session's cookie and a form token; tested with the pages
SESSION = {
    "POST /sign-in", "POST /sign-out", "GET /tokens", "POST /tokens", "POST /tokens/revoke",
    "GET /datasets/{owner}/{name}/settings", "POST /datasets/{owner}/{name}/settings/private",
    "POST /datasets/{owner}/{name}/settings/delete",
}  # fmt: skip
# for everybody; lists show each viewer what they may read
PUBLIC = {
    "GET /openapi.json", "HEAD /openapi.json", "GET /docs",
    "GET /healthz", "GET /readyz", "GET /metrics", "GET /api/whoami-v2", "GET /api/users/{name}/overview",
    "GET /api/organizations/{name}/overview", "GET /api/organizations/{name}/members", "POST /api/validate-yaml",
    "GET /static/{name}", "GET /sign-in", "POST /cas/{place}/v1/xorb-grants/default/{digest}",
    "POST /cas/{place}/v2/shards", "POST /cas/{place}/v1/telemetry",
}  # fmt: skip
LISTS = {
    "GET /api/datasets", "GET /api/models", "GET /api/commentaries", "GET /api/commentaries/datasets",
    "GET /api/commentaries/datasets/{dataset:path}", "GET /api/commentaries/compare", "GET /", "GET /datasets",
    "GET /for/{dataset:path}", "GET /owners/{owner}", "GET /compare", "GET /rest",
    "GET /api/settings/repositories", "GET /api/organizations/{name}/settings/repositories",
}  # fmt: skip


def all_routes(routes, prefix=""):
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from all_routes(inner.routes, prefix + route.include_context.prefix)
        else:
            yield from (f"{method} {prefix}{route.path}" for method in route.methods)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with running(tmp_path_factory.mktemp("hub")) as one:
        one.ada = one.token("ada")
        for kind, name in (("dataset", "secret"), ("model", "secret"), ("dataset", "open"), ("model", "open")):
            made = one.world.repositories.create(kind, "ada", name, private=name == "secret")
            one.world.history.commit(made, "main", [_change("a.txt", b"secret text")], title="t", author="ada")
            one.world.history.create_ref(made, "side", "main", tag=False)
            one.world.history.create_ref(made, "v1", "main", tag=True)
        yield one


def _change(path, data):
    from commentary_hub_server.rules.repositories import Change

    return Change(path, data=data)


def address(route, name):
    method, path = route.split(" ", 1)
    path = path.replace("{kind}s", "datasets").replace("{repo:path}", f"ada/{name}")
    path = path.replace("{owner}", "ada").replace("{name}", name)
    return method, re.sub(r"\{([a-z:]+)\}", lambda found: PLACES.get(found[1], "x"), path)


def ask(hub, route, name, token=None, body=None):
    method, path = address(route, name)
    kind = "dataset" if "/datasets/" in path else "model"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    settings = {}
    if "paths-info" in path:
        settings["data"] = {"paths": "a.txt"}
    elif "duplicate" in path:
        settings["json"] = {"target": {"type": kind, "name": "eve/mine"}, "files": [{"sha256": SHA}]}
    elif body is not None:
        settings["json"] = body
    params = {"before": "main"} if path.endswith("difference") else {}
    return httpx2.request(method, f"{hub.url}{path}", headers=headers, params=params, timeout=30, **settings)


def shown(reply, name):
    """What a stranger sees, without what differs between any two requests, and without the name that was asked for."""
    text = re.sub(r"[0-9a-f]{32,}", "", reply.text).replace(name, "NAME")
    headers = {key: value for key, value in reply.headers.items() if key not in {"date", "x-request-id", "set-cookie"}}
    headers.pop("content-length", None)
    return reply.status_code, text, {key: value.replace(name, "NAME") for key, value in headers.items()}


def test_every_route_is_in_a_table(hub):
    reads = {line for line in READS.splitlines() if line}
    known = reads | set(WRITES) | BY_BODY | SIGNED | SESSION | PUBLIC | LISTS
    there = {one for one in all_routes(build_app(hub.world.settings, hub.world).routes) if " /{path:path}" not in one}
    assert there - known == set(), "say in this file who may use these routes"
    assert known - there == set()


def test_a_stranger_makes_no_route_read_or_parse_much(hub):
    """The refusal comes before the body, whichever token was made up, and says nothing of what is private."""
    host, port = hub.url.removeprefix("http://").split(":")

    def announced(route, name, headers):
        method, path = address(route, name)
        with socket.create_connection((host, int(port)), 10) as connection:
            lines = [f"{method} {path} HTTP/1.1", "Host: hub", "Content-Type: application/json", *headers]
            connection.sendall("\r\n".join([*lines, "Content-Length: 300000", "", ""]).encode())
            return connection.recv(4000).split(b" ", 2)[1]

    routes = {
        one for one in all_routes(build_app(hub.world.settings, hub.world).routes) if one[:3] not in {"GET", "HEA"}
    }
    assert len(routes) > 40
    for route in sorted(routes):
        for headers in ([], ["Authorization: Bearer hf_invented_token"]):
            seen = {announced(route, name, headers) for name in ("secret", "absent")}
            assert seen <= {b"401", b"403", b"404", b"413"}, (route, seen)
            assert len(seen) == 1, (route, seen)


@pytest.mark.parametrize("path", ["/api/validate-yaml", "/datasets/ada/open.git/info/lfs/objects/batch"])
def test_a_body_without_a_length_ends_where_a_stranger_may_send_no_more(hub, path):
    sent = 0

    def endless(size):
        nonlocal sent
        while sent < size:
            sent += 1 << 16
            yield b" " * (1 << 16)

    for token, size, status in ((None, 1 << 27, 401), ("hf_invented", 1 << 27, 401), (hub.ada, 1 << 22, 400)):
        sent, headers = 0, {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        with contextlib.suppress(httpx2.TransportError):  # cut off while it was still sending
            reply = httpx2.post(f"{hub.url}{path}", content=endless(size), headers=headers, timeout=30)
            assert reply.status_code == status
        assert (sent == size) is (status == 400), token


def test_what_a_stranger_needs_fits(hub):
    objects = [{"oid": f"{n:064x}", "size": 10**12} for n in range(1000)]
    ask = {"operation": "download", "transfers": ["basic"], "objects": objects, "hash_algo": "sha256"}
    reply = httpx2.post(f"{hub.url}/datasets/ada/open.git/info/lfs/objects/batch", json=ask, timeout=30)
    assert reply.status_code == 200
    card = {"content": "---\nlicense: mit\n---\n" + "text " * 40_000, "repoType": "dataset"}
    assert httpx2.post(f"{hub.url}/api/validate-yaml", json=card).status_code == 200
    card["content"] *= 2
    assert httpx2.post(f"{hub.url}/api/validate-yaml", json=card).status_code == 401
    known = {"Authorization": f"Bearer {hub.token('eve')}"}
    assert httpx2.post(f"{hub.url}/api/validate-yaml", json=card, headers=known).status_code == 200


@pytest.mark.parametrize("route", [line for line in READS.splitlines() if line])
def test_a_private_repository_looks_like_a_missing_one(hub, route):
    eve = hub.token("eve")
    scoped = hub.token("ada", only_repo="dataset/ada/open")
    for token in (None, eve, scoped):
        private, missing = ask(hub, route, "secret", token), ask(hub, route, "absent", token)
        assert private.status_code in {401, 404}
        assert shown(private, "secret") == shown(missing, "absent")
        assert b"secret text" not in private.content


@pytest.mark.parametrize("route", WRITES)
def test_no_token_writes_more_than_it_may(hub, route):
    before = _state(hub)
    body = WRITES[route]
    reader = hub.token("ada", role="read")
    kind = "dataset" if "/datasets/" in route else "model"
    elsewhere = hub.token("ada", only_repo=f"{kind}/ada/else")
    for name, token, status in (
        ("open", None, 401), ("open", "hf_invented_token", 401), ("open", reader, 403), ("open", hub.token("eve"), 403),
        ("open", elsewhere, 403), ("secret", reader, 403), ("secret", elsewhere, 404),
        ("secret", hub.token("eve"), 404), ("secret", None, 404), ("open", hub.token("ada", expires_at=1.0), 401),
    ):  # fmt: skip
        assert ask(hub, route, name, token, body).status_code == status, (name, token)
    private, missing = (ask(hub, route, name, hub.token("eve"), body) for name in ("secret", "absent"))
    assert shown(private, "secret") == shown(missing, "absent")
    assert _state(hub) == before


def _state(hub):
    world = hub.world
    found = [world.repositories.get(kind, f"ada/{name}") for kind, name in itertools.product(
        ("dataset", "model"), ("open", "secret"))]  # fmt: skip
    return [(one.private, world.history.refs(one), world.history.holds(one, SHA)) for one in found]


def test_repositories_named_in_a_body_ask_for_the_same_rights(hub):
    before = _state(hub)
    reader, elsewhere = hub.token("ada", role="read"), hub.token("ada", only_repo="dataset/ada/else")
    for path, method, body in (
        ("create", "POST", {"name": "new", "organization": "ada", "type": "dataset"}),
        ("delete", "DELETE", {"name": "open", "organization": "ada", "type": "dataset"}),
        ("move", "POST", {"fromRepo": "ada/open", "toRepo": "ada/moved", "type": "dataset"}),
    ):
        for token, statuses in (
            (None, {401}), ("hf_invented_token", {401}), (reader, {403}), (elsewhere, {403}), (hub.token("eve"), {403}),
        ):  # fmt: skip
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            reply = httpx2.request(method, f"{hub.url}/api/repos/{path}", headers=headers, json=body, timeout=30)
            assert reply.status_code in statuses, (path, token, reply.text)
    scoped = hub.token("ada", only_repo="dataset/ada/open")
    body = {"fromRepo": "ada/open", "toRepo": "ada/moved", "type": "dataset"}
    moved = httpx2.post(f"{hub.url}/api/repos/move", headers={"Authorization": f"Bearer {scoped}"}, json=body)
    assert moved.status_code == 403
    assert _state(hub) == before


@pytest.mark.parametrize("route", sorted(LISTS))
def test_lists_and_counts_hide_what_is_private(hub, route):
    path = route.removeprefix("GET ").replace("{dataset:path}", "x/y").replace("{owner}", "ada")
    path = path.replace("{name}", "ada")
    params = {"search": "secret"} if path in {"/api/datasets", "/api/models", "/api/commentaries", "/"} else {}
    if path.endswith("compare"):
        params = {"id": ["ada/secret", "ada/open"]}
    for token in (None, hub.token("eve"), hub.token("ada", only_repo="dataset/ada/open")):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        text = httpx2.get(f"{hub.url}{path}", params=params, headers=headers, timeout=30).text
        assert (
            "ada/secret" not in text.replace('value="ada/secret"', "").replace("id=ada%2Fsecret", "")
            or "compare" in path
        )
        assert "secret text" not in text
    if path in {"/api/datasets", "/api/models"}:
        seen = httpx2.get(f"{hub.url}{path}", params=params, headers={"Authorization": f"Bearer {hub.ada}"}, timeout=30)
        assert [one["id"] for one in seen.json()] == ["ada/secret"]


def test_a_xet_token_is_for_one_repository_and_what_it_may(hub):
    world = hub.world
    secret = str(world.repositories.get("dataset", "ada/secret").id)
    sign, ada = world.signer.grant, world.directory.tokens("ada")[0].id
    later = 2**40
    digest = "0" * 64
    read = {"Authorization": f"Bearer {sign(Scope('ada', secret, 'read', later, ada))}"}
    assert httpx2.post(f"{hub.url}/cas/x/v1/xorbs/default/{digest}", headers=read, content=b"x").status_code == 403
    assert httpx2.post(f"{hub.url}/cas/x/v1/shards", headers=read, content=b"x").status_code == 403
    for token in (hub.ada, "nonsense"):
        headers = {"Authorization": f"Bearer {token}"}
        for method, path in (("GET", f"chunks/default/{digest}"), ("GET", f"reconstructions/{digest}"),
                             ("POST", "shards"), ("POST", f"xorbs/default/{digest}")):  # fmt: skip
            assert httpx2.request(method, f"{hub.url}/cas/x/v1/{path}", headers=headers).status_code == 401
    eve = {"Authorization": f"Bearer {hub.token('eve')}"}
    for permission in ("read", "write"):
        path = f"/api/datasets/ada/secret/xet-{permission}-token/main"
        assert httpx2.get(f"{hub.url}{path}", headers=eve).status_code == 404
    assert httpx2.get(f"{hub.url}/api/datasets/ada/open/xet-write-token/main", headers=eve).status_code == 403
    assert httpx2.get(f"{hub.url}/api/spaces/ada/open/xet-read-token/main", headers=eve).status_code == 404
    assert json.loads(httpx2.get(f"{hub.url}/api/datasets/ada/open/xet-read-token/main").text)["accessToken"]


def test_a_grant_is_never_worth_more_than_the_token_that_asked_for_it(hub):
    """A xet token does not read what its token may not, and ends with it; neither does a signed link outlive it."""
    world, data = hub.world, b"chunk of a private repository" * 100
    world.directory.add_user("gil")
    for name in ("own", "private", "link"):
        world.repositories.create("dataset", "gil", name, private=name != "own")
    number = {name: world.repositories.get("dataset", f"gil/{name}").id for name in ("own", "private", "link")}
    held = chunk_hash(data)
    later = int(time.time()) + 60
    private = Scope("gil", str(number["private"]), "write", later)
    accept_xorb(world.xet, private, xorb_hash([(held, len(data))]), chunk(data))
    world.xet.accept_shard(private, lone_shard(data))
    whole, only = hub.token("gil"), hub.token("gil", only_repo="dataset/gil/own")

    def asked(token):
        address = f"{hub.url}/api/datasets/gil/own/xet-write-token/main"
        access = httpx2.get(address, headers={"Authorization": f"Bearer {token}"}).json()["accessToken"]
        return {"Authorization": f"Bearer {access}"}

    address, access = f"{hub.url}/cas/x/v1/chunks/default/{to_text(held)}", asked(whole)
    assert httpx2.get(address, headers=access).status_code == 200
    assert httpx2.get(address, headers=asked(only)).status_code == 404
    world.directory.revoke_token("gil", next(one.id for one in world.directory.tokens("gil")))
    assert httpx2.get(address, headers=access).status_code == 401
    assert httpx2.post(f"{hub.url}/cas/x/v1/shards", headers=access, content=b"x").status_code == 401

    repo, sha256 = world.repositories.get("dataset", "gil/link"), hashlib.sha256(data).hexdigest()
    world.objects.put(object_key(sha256), [data])
    world.history.note_upload(repo, sha256, len(data))
    token = hub.token("gil", role="read")
    ask = {"operation": "download", "objects": [{"oid": sha256, "size": len(data)}]}

    def link(headers):
        reply = httpx2.post(f"{hub.url}/datasets/gil/link.git/info/lfs/objects/batch", headers=headers, json=ask).json()
        return reply["objects"][0]["actions"]["download"]["href"]

    mine = link({"Authorization": f"Bearer {token}"})
    world.repositories.set_private(repo, private=False)
    public = link({})
    assert httpx2.get(mine).content == httpx2.get(public).content == data
    world.repositories.set_private(repo, private=True)
    assert httpx2.get(public).status_code == 404
    world.directory.revoke_token("gil", world.directory.tokens("gil")[-1].id)
    assert httpx2.get(mine).status_code == 404
    world.repositories.set_private(repo, private=False)
    assert httpx2.get(public).status_code == 200
    world.history.remove(repo, [sha256])
    assert httpx2.get(public).status_code == 404
