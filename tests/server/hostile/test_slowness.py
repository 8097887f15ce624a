"""Who reads slowly, sends slowly or stops in the middle: they cost the hub little, and keep nobody else waiting."""

import hashlib
import json
import os
import socket
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from commentary_hub_server import connections
from commentary_hub_server.routes import bodies
from commentary_hub_server.routes.hub._commits import LARGE_BODIES, LARGE_BODY_BYTES
from commentary_hub_server.rules.xet import to_text, xorb_key

COMMIT = "/api/datasets/ada/set/commit/main"


@contextmanager
def connected(hub, method, path, *headers):
    """A connection on which a request has begun; it takes in little that nobody has read."""
    host, port = hub.url.removeprefix("http://").split(":")
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        one.settimeout(30)
        one.connect((host, int(port)))
        one.sendall("\r\n".join([f"{method} {path} HTTP/1.1", "Host: hub", *headers, "\r\n"]).encode())
        yield one


def sending(hub, path, length, access=None, method="POST"):
    kind = "x-www-form-urlencoded" if path == "/sign-in" else "json"
    return connected(
        hub, method, path, f"Authorization: Bearer {access or hub.ada}", f"Content-Length: {length}",
        f"Content-Type: application/{kind}",
    )  # fmt: skip


def said(connection):
    """Everything that the hub answers until it closes."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def xet(hub):
    """(path of the repository's store, a token that writes there)."""
    address = f"{hub.url}/api/datasets/ada/set/xet-write-token/main"
    given = httpx2.get(address, headers={"Authorization": f"Bearer {hub.ada}"}).json()
    return urlsplit(given["casUrl"]).path, given["accessToken"]


def commit_of(content):
    rows = [{"key": "header", "value": {"summary": "x"}}]
    rows.append({"key": "file", "value": {"path": "a.txt", "content": content, "encoding": "utf-8"}})
    return "\n".join(map(json.dumps, rows)).encode()


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_of_a_xorb_no_more_is_read_than_its_reader_takes(hub, monkeypatch):
    piece, xorb, taken = os.urandom(1 << 20), b"\1" * 32, 0
    data, objects = piece * 32, hub.world.objects
    objects.put(xorb_key(xorb), [data])
    until = int(time.time()) + 60
    link = hub.world.signer.sign("xorb", to_text(xorb), 5, len(data), str(hub.repo.id), hub.by, until)
    read, stream = objects.read, objects.stream

    def counted(pieces):
        nonlocal taken
        for one in pieces:
            taken += len(one)
            yield one

    monkeypatch.setattr(objects, "read", lambda *asked: b"".join(counted([read(*asked)])))
    monkeypatch.setattr(objects, "stream", lambda *asked, **how: counted(stream(*asked, **how)))
    with connected(hub, "GET", f"/cas/x/v1/xorb-bytes/{link}", "Connection: close") as slow:
        begun = slow.recv(100)
        time.sleep(0.5)
        assert taken < len(data) // 2
        head, _, body = (begun + said(slow)).partition(b"\r\n\r\n")
    assert b" 206 " in head
    assert body == data[5:]
    found = httpx2.get(f"{hub.url}/cas/x/v1/xorb-bytes/{link}", headers={"Range": "bytes=0-19"})
    assert (found.status_code, found.content) == (206, data[5:20])
    assert (found.headers["content-length"], found.headers["content-range"]) == ("15", "bytes 5-19/*")
    objects.delete(xorb_key(xorb))
    assert httpx2.get(f"{hub.url}/cas/x/v1/xorb-bytes/{link}").status_code == 404


def test_large_commits_that_arrive_slowly_keep_nobody_waiting(hub):
    body = commit_of("x" * LARGE_BODY_BYTES)
    with ExitStack() as stack:
        slow = [stack.enter_context(sending(hub, COMMIT, len(body))) for _ in range(LARGE_BODIES)]
        for one in slow:
            one.sendall(body[:1000])
        time.sleep(0.3)
        headers = {"Authorization": f"Bearer {hub.ada}"}
        assert httpx2.post(f"{hub.url}{COMMIT}", content=body, headers=headers, timeout=30).status_code == 200
        for one in slow:
            one.sendall(body[1000:])
            assert b" 200 " in one.recv(100)


def test_shards_that_are_not_whole_wait_on_the_disk(hub):
    path, access = xet(hub)
    before, size = resident_bytes(), 48 << 20
    with ExitStack() as stack:
        for _ in range(5):
            one = stack.enter_context(sending(hub, f"{path}/v1/shards", size + 1, access))
            for _ in range(size >> 20):
                one.sendall(bytes(1 << 20))
        time.sleep(0.5)
        assert resident_bytes() - before < 120 << 20


@pytest.mark.parametrize("what", ["commit", "large commit", "shard", "xorb", "object", "part", "json", "form"])
def test_a_body_that_stalls_is_given_up(hub, monkeypatch, what):
    monkeypatch.setattr(bodies, "IDLE_S", 0.5)
    path, access = xet(hub)
    oid, later = hashlib.sha256(what.encode()).hexdigest(), int(time.time()) + 60
    signed = {
        "object": ("lfs-put", hub.repo.id, oid, 4 << 20, hub.by, later),
        "part": ("lfs-part", hub.repo.id, oid, 4 << 20, 1, hub.by, later),
    }
    link = hub.world.signer.sign(*signed[what]) if what in signed else ""
    paths = {
        "commit": COMMIT, "large commit": COMMIT, "shard": f"{path}/v1/shards",
        "xorb": f"{path}/v1/xorbs/default/{oid}", "object": f"/lfs/put/{link}", "part": f"/lfs/part/{link}",
        "json": "/api/repos/create", "form": "/sign-in",
    }  # fmt: skip
    length = {"json": 2000, "form": 2000, "large commit": 16 << 20}.get(what, 4 << 20)
    access = access if what in ("shard", "xorb") else hub.ada
    with sending(hub, paths[what], length, access, "PUT" if link else "POST") as stalled:
        for _ in range(8):  # slow, but alive: longer than the limit altogether
            stalled.sendall(b"\0")
            time.sleep(0.1)
        answer = said(stalled)  # and it closes the connection
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert b"no byte came for 0.5 seconds: send it again" in answer
    for _ in range(100):
        if not list((hub.folder / "objects").glob(".writing-*")):
            break
        time.sleep(0.05)
    assert list((hub.folder / "objects").glob(".writing-*")) == []


def test_a_body_that_takes_too_long_altogether_is_given_up(hub, monkeypatch):
    monkeypatch.setattr(bodies, "BODY_S", 0.5)
    with sending(hub, COMMIT, 4 << 20) as slow:
        for _ in range(4):
            slow.sendall(b"\0")
            time.sleep(0.1)
        assert b" 408 " in said(slow).split(b"\r\n")[0]


@pytest.mark.parametrize("before", ["", "GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n"])
@pytest.mark.parametrize("head", ["GET / HTTP/1.1\r\nHost: hub\r\nX-More: " + "x" * 20, "\r\n" * 20, ""])
def test_a_head_that_never_ends_is_given_up(hub, monkeypatch, before, head):
    """Behind a reply too, where uvicorn itself gives up who is silent, after 5 seconds."""
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    host, port = hub.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as one:
        if before:
            one.sendall(before.encode())
            assert b" 200 " in one.recv(1 << 16)
        began = time.perf_counter()
        with suppress(BrokenPipeError, ConnectionResetError):
            for letter in head:  # slow, but alive
                one.sendall(letter.encode())
                time.sleep(0.1)
            assert said(one) == b""
        assert time.perf_counter() - began < (8 if before and not head else 2.5)


def test_who_sends_a_body_for_longer_than_a_head_may_take_is_served(hub, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    body = commit_of("slow")
    with sending(hub, COMMIT, len(body)) as slow:
        for at in range(0, len(body), 20):
            slow.sendall(body[at : at + 20])
            time.sleep(0.1)
        assert b" 200 " in slow.recv(1 << 16)
        time.sleep(0.5)
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n")
        assert b"HTTP/1.1 200 " in slow.recv(1 << 16)


def test_who_lost_the_right_to_write_while_sending_commits_nothing(hub):
    hub.world.directory.add_org("lab", member="ada", role="admin")
    bob = hub.token("bob")
    hub.world.directory.add_member("lab", "bob", role="write")
    repo = hub.world.repositories.create("dataset", "lab", "set", private=False)
    body, head = commit_of("x"), hub.world.history.resolve(repo, "main")
    with sending(hub, "/api/datasets/lab/set/commit/main", len(body), bob) as late:
        late.sendall(body[:10])
        time.sleep(0.3)
        hub.world.directory.remove_member("lab", "bob")
        late.sendall(body[10:])
        assert b" 403 " in late.recv(100)
    assert hub.world.history.resolve(repo, "main") == head
