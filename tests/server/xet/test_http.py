"""The Xet routes' doors: who is let in, and with what."""

import time
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.testclient import TestClient

from commentary_hub_server.routes.xet import Allowed, build_router
from commentary_hub_server.rules.xet import MemoryIndex, MemoryXorbs, Scope, Signer, XetService, to_text

SIGNER = Signer(b"k" * 32)
NAME = "0" * 64


def authorise(_request: Request, _kind: str, repo: str, permission: str) -> Allowed:
    if repo != "me/m" or permission != "read":
        raise HTTPException(404)
    return Allowed("me", repo, 0)


@pytest.fixture
def http() -> Iterator[TestClient]:
    app = FastAPI()
    service = XetService(MemoryXorbs(), MemoryIndex(), SIGNER, lambda scope, repo: repo == scope.repo)
    app.include_router(build_router(service, authorise))
    with TestClient(app) as client:
        yield client


def bearer(permission: str, expires: int = 2**40) -> dict[str, str]:
    return {"Authorization": "Bearer " + SIGNER.grant(Scope("me", "me/m", permission, expires))}


def test_token_routes_ask_the_rules(http: TestClient) -> None:
    reply = http.get("/api/models/me/m/xet-read-token/refs%2Fpr%2F1")
    assert reply.headers["X-Xet-Access-Token"] == reply.json()["accessToken"]
    assert SIGNER.scope(reply.json()["accessToken"]).permission == "read"
    for path in (
        "models/me/m/xet-write-token/main",
        "models/x/y/xet-read-token/main",
        "spaces/me/m/xet-read-token/main",
    ):
        assert http.get(f"/api/{path}").status_code == 404


@pytest.mark.parametrize("path", [f"/cas/x/v1/xorbs/default/{NAME}", "/cas/x/v1/shards"])
def test_uploads_need_a_live_write_token(http: TestClient, path: str) -> None:
    assert http.post(path, content=b"x").status_code == 401
    assert http.post(path, content=b"x", headers=bearer("write", int(time.time()) - 1)).status_code == 401
    assert http.post(path, content=b"x", headers=bearer("read")).status_code == 403
    assert http.post(path, content=b"x", headers=bearer("write")).status_code == 400


def test_unknown_things_are_404_and_bad_names_400(http: TestClient) -> None:
    for path in ("chunks/default", "reconstructions"):
        assert http.get(f"/cas/x/v1/{path}/{NAME}", headers=bearer("read")).status_code == 404
        assert http.get(f"/cas/x/v1/{path}/nonsense", headers=bearer("read")).status_code == 400
    for path in (f"/cas/x/v1/xorb-grants/default/{NAME}", "/cas/x/v1/telemetry", "/cas/x/v2/shards"):
        assert http.post(path, headers=bearer("write")).status_code == 404


def test_links_are_signed_and_expire(http: TestClient) -> None:
    now = int(time.time())
    old, new = (SIGNER.sign("xorb", to_text(bytes(32)), 0, 10, "me/m", 0, until) for until in (now - 1, now + 60))
    access = bearer("write")["Authorization"].removeprefix("Bearer ")
    for token in ("forged", old, access):
        assert http.get(f"/cas/x/v1/xorb-bytes/{token}").status_code == 403
    assert http.get(f"/cas/x/v1/xorb-bytes/{new}").status_code == 404  # no such xorb
