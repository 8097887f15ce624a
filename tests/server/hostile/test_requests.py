"""What a stranger may send to the hub, and what must not follow from it."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import resource
import socket
import threading
import time
from urllib.parse import quote

import httpx2
import pytest
from structlog.testing import capture_logs

from commentary_hub_server.rules.repositories import Change, check_path
from tests.server.hub.running import running

SECRET_FILE = "root:"


@pytest.fixture(scope="module")
def hub(hub):
    changes = [Change("a.txt", data=b"hello"), Change("f/page.html", data=b"<script>alert(1)</script>")]
    changes += [Change("big.txt", data=b"0123456789" * 20_000), Change("x.svg", data=b"<svg onload='alert(1)'/>")]
    hub.world.history.commit(hub.repo, "main", changes, title="t", author="ada")
    return hub


def raw(hub, method, path, body=None, headers=None):
    """A request whose path goes out exactly as it is written: no client tidies it up."""
    connection = http.client.HTTPConnection(hub.url.removeprefix("http://"), timeout=60)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in {"Authorization": f"Bearer {hub.ada}", **(headers or {})}.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()
    finally:
        connection.close()


TRAVERSALS = [
    "../../../../etc/passwd", "..%2f..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "%252e%252e%252f%252e%252e%252fetc/passwd", "..%5c..%5cetc%5cpasswd", "..\\..\\etc\\passwd",
    "....//....//etc/passwd",
    "%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd", "..%00/..%00/etc/passwd", "/etc/passwd", "%2fetc%2fpasswd",
    "file:///etc/passwd", "a.txt/../../../secret", "..;/..;/secret", "%uff0e%uff0e/secret", "\u2025/secret",
    "../hub.sqlite3", "..%2fhub.sqlite3", "%2e%2e%2fsecret", "objects/../secret",
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_spelling_leaves_the_repository(hub, path):
    path = quote(path, safe="/%;:.\\")
    key = (hub.folder / "secret").read_text().encode()
    for address in (
        f"/datasets/ada/set/resolve/main/{path}", f"/datasets/ada/set/resolve/{path}/a.txt",
        f"/api/datasets/ada/set/tree/main/{path}", f"/api/datasets/ada/set/tree/{path}",
        f"/api/datasets/ada/set/revision/{path}", f"/datasets/ada/{path}/resolve/main/a.txt",
        f"/static/{path}", f"/lfs/{path}", f"/cas/x/v1/xorb-bytes/{path}", f"/datasets/ada/set/blob/main/{path}",
    ):  # fmt: skip
        status, _, body = raw(hub, "GET", address)
        assert status in {400, 401, 403, 404, 307}, (address, status)
        assert SECRET_FILE.encode() not in body
        assert b"SQLite format" not in body
        assert key not in body


def test_names_in_any_script_are_paths():
    for path in (
        "caf\u00e9/\u65e5\u672c\u8a9e.txt",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f469\u200d\U0001f52c.png",
    ):
        assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["../x", "/x", "a/../x", "a\\b", "./x",
      "a/./b", ".git/config", "A/.GiT/x", "a\0b", "C:/x", "a//b", "x.", " x", "x ",
     "e\u0301", "a\u2028b" * 400, "con\x7f", "a\ue000b", "a*", "a?b", "a|b", "<a>", "", "\n", "a/", "..", "~/x/../y",
     "weights\u202egpj.exe", "a\u200bb", "a\x85b", "\ufeffa", "a\u2066b", "a\u2029b"],
)  # fmt: skip
def test_such_names_are_never_committed(hub, path):
    with pytest.raises(ValueError, match="cannot be a path"):
        check_path(path)
    line = {"key": "file", "value": {"path": path, "content": "eA==", "encoding": "base64"}}
    body = json.dumps({"key": "header", "value": {"summary": "x"}}) + "\n" + json.dumps(line)
    status, _, reply = raw(hub, "POST", "/api/datasets/ada/set/commit/main", body.encode())
    assert status == 400, reply


def test_what_a_stranger_uploaded_is_never_run(hub):
    for path in ("f/page.html", "x.svg", "a.txt"):
        status, headers, _ = raw(hub, "GET", f"/datasets/ada/set/resolve/main/{path}")
        headers = {name.lower(): value for name, value in headers.items()}
        assert status == 200
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert headers["content-disposition"].startswith("attachment")
        assert headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    "value",
    ["bytes=" + ",".join(f"{n}-{n}" for n in range(5000)), "bytes=0-" + ",0-" * 5000, "bytes=-" + "9" * 5000,
     "bytes=" + "0" * 7000 + "-1", "bytes=--1", "bytes=a-b",
      "bytes=5-1", "bytes=\xb2-\xb3", "lines=0-1", "bytes=0-0,-1"],
)  # fmt: skip
def test_ranges_cost_no_more_than_the_file(hub, value):
    began = time.perf_counter()
    status, _, body = raw(hub, "GET", "/datasets/ada/set/resolve/main/big.txt", headers={"Range": value})
    assert status in {200, 206, 400, 416, 431}
    assert len(body) <= 200_000 + 1000
    assert time.perf_counter() - began < 5


def test_no_limit_is_unbounded(hub):
    huge = 10**9
    for path in ("/api/datasets", "/api/datasets/ada/set/tree/main", "/api/datasets/ada/set/commits/main"):
        status, _, body = raw(hub, "GET", f"{path}?limit={huge}")
        assert status == 200
        assert len(json.loads(body)) <= 1000
        assert raw(hub, "GET", f"{path}?limit=-1")[0] in {200, 400}
        assert raw(hub, "GET", f"{path}?limit=abc")[0] == 400
    assert raw(hub, "GET", "/api/datasets/ada/set/commits/main?p=999999999")[0] == 400
    assert raw(hub, "GET", "/api/datasets?cursor=" + "A" * 3000)[0] == 400
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    paths = "&".join("paths=a.txt" for _ in range(30_000)).encode()
    assert raw(hub, "POST", "/api/datasets/ada/set/paths-info/main", paths, form)[0] == 400


def test_a_batch_of_enormous_objects_is_refused_before_anything_is_made(hub):
    objects = [{"oid": f"{n:064x}", "size": 1 << 40} for n in range(1000)]
    body = json.dumps({"operation": "upload", "transfers": ["multipart"], "objects": objects}).encode()
    headers = {"Content-Type": "application/json"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert raw(hub, "POST", "/datasets/ada/set.git/info/lfs/objects/batch", body, headers)[0] == 413
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    for bad in (
        [1],
        [{"oid": "x", "size": 1}],
        [{"oid": "a" * 64, "size": -1}],
        [{"oid": "a" * 64, "size": True}],
        "x",
    ):
        body = json.dumps({"operation": "upload", "objects": bad}).encode()
        status, _, reply = raw(hub, "POST", "/datasets/ada/set.git/info/lfs/objects/batch", body, headers)
        assert status == 413 or json.loads(reply)["objects"][0]["error"]["code"] == 422


def test_bombs_in_yaml_and_json_are_refused_at_once(hub):
    layers = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    card = "---\n" + "\n".join(layers) + "\n---\n"
    deep = "---\na: " + "[" * 20_000 + "]" * 20_000 + "\n---\n"
    headers = {"Content-Type": "application/json"}
    for text in (card, deep):
        began = time.perf_counter()
        body = json.dumps({"content": text, "repoType": "dataset"}).encode()
        status, _, reply = raw(hub, "POST", "/api/validate-yaml", body, headers)
        assert status == 400, reply[:200]
        # committed all the same, such a card has no metadata, and nothing else breaks
        line = {"key": "file", "value": {"path": "README.md", "content": text, "encoding": "utf-8"}}
        body = json.dumps({"key": "header", "value": {"summary": "x"}}) + "\n" + json.dumps(line)
        assert raw(hub, "POST", "/api/datasets/ada/set/commit/main", body.encode())[0] == 200
        assert json.loads(raw(hub, "GET", "/api/datasets/ada/set")[2])["cardData"] == {}
        assert time.perf_counter() - began < 10
    for body in (b"[" * 100_000, b'{"key":' * 50_000, b"\xff\xfe", b'{"key":"file","value":3}',
                 b'{"key":"file","value":{}}',
                 b'{"key":"lfsFile","value":{"path":"x","oid":"../../x"}}', b'{"key":"evil","value":{"path":"x"}}',
                 b'{"key":"file","value":{"path":"x","content":"!!!"}}'):  # fmt: skip
        assert raw(hub, "POST", "/api/datasets/ada/set/commit/main", body)[0] == 400, body[:40]


def test_a_line_of_a_commit_becomes_no_more_than_its_text(hub):
    nested = "[" + ",".join(["[]"] * 50_000) + "]"
    header, path = '{"key":"header","value":{"summary":"x"}}', "/api/datasets/ada/set/commit/main"
    long = '{"key":"header","value":{"summary":"' + "x" * 70_000 + '"}}'
    other = '{"key":"deletedFile","value":{"path":"x","more":"' + "x" * 70_000 + '"}}'
    inside = '{"key":"file","value":{"path":"x","content":"eA==","more":' + nested + "}}"
    size = '{"key":"lfsFile","value":{"path":"x","oid":"' + "a" * 64 + '","size":[[],[],[]]}}'
    for lines in ([header.replace('"x"', f'"x","a":{nested}')], [long], [header, other], [header, inside]):
        status, _, reply = raw(hub, "POST", path, "\n".join(lines).encode())
        assert (status, b"65,536 bytes" in reply) == (400, True)
    status, _, reply = raw(hub, "POST", path, f"{header}\n{size}".encode())
    assert (status, b"number of its bytes" in reply) == (400, True)
    content = base64.b64encode(os.urandom(200_000)).decode()
    row = {"key": "file", "value": {"path": "long.bin", "content": content, "encoding": "base64"}}
    assert raw(hub, "POST", path, f"{header}\n{json.dumps(row)}".encode())[0] == 200


def test_a_gitignore_costs_little_whatever_it_says(hub):
    headers = {"Content-Type": "application/json"}
    asked = {"files": [{"path": "a" * 1000, "size": 1, "sample": ""}]}
    for gitignore, status in (("*a" * 40 + "b", 200), ("*\n" * 600, 400), ("#" * 40_000 + "\nx", 400), ("!", 400),
                              ("[z-a]", 400), ("*a?[ab]*" * 4000, 400), (["x"], 400)):  # fmt: skip
        began = time.perf_counter()
        body = json.dumps(asked | {"gitIgnore": gitignore}).encode()
        assert raw(hub, "POST", "/api/datasets/ada/set/preupload/main", body, headers)[0] == status
        assert time.perf_counter() - began < 5


def test_an_upload_longer_than_announced_is_cut_off(hub):
    number, oid, later = hub.repo.id, "b" * 64, int(time.time()) + 60
    link = f"/lfs/put/{hub.world.signer.sign('lfs-put', number, oid, 1000, hub.by, later)}"
    sent = 0

    def endless():
        nonlocal sent
        while sent < 1 << 30:
            sent += 1 << 16
            yield bytes(1 << 16)

    with contextlib.suppress(httpx2.TransportError):  # cut off while it was still sending
        assert httpx2.put(f"{hub.url}{link}", content=endless(), timeout=30).status_code == 400
    assert sent < 1 << 27
    assert list((hub.folder / "objects").glob(".writing-*")) == []


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/sign-in", 64 << 10), ("/api/repos/create", 8 << 20), ("/api/validate-yaml", 8 << 20),
     ("/datasets/ada/set.git/info/lfs/objects/batch", 8 << 20), ("/api/datasets/ada/set/commit/main", 256 << 20)],
)  # fmt: skip
def test_a_body_is_bounded_whether_its_length_is_announced_or_not(hub, path, limit):
    status, headers, _ = raw(hub, "POST", path, headers={"Content-Length": str(limit + 1)})
    assert (status, headers["connection"]) == (413, "close")
    if limit > 8 << 20:
        return
    sent = 0

    def endless():
        nonlocal sent
        while sent < 1 << 27:
            sent += 1 << 16
            yield bytes(1 << 16)

    headers = {"Content-Type": "application/x-www-form-urlencoded" if path == "/sign-in" else "application/json"}
    headers["Authorization"] = f"Bearer {hub.ada}"
    with contextlib.suppress(httpx2.TransportError):  # cut off while it was still sending
        reply = httpx2.post(f"{hub.url}{path}", content=endless(), headers=headers, timeout=30)
        assert reply.status_code == 413
    assert sent < limit + (8 << 20)


def test_who_may_not_write_sends_no_commit(hub):
    """The refusal comes before the first byte of the body."""
    host, port = hub.url.removeprefix("http://").split(":")
    for headers, status in (("", b"401"), (f"Authorization: Bearer {hub.token('eve')}\r\n", b"403")):
        with socket.create_connection((host, int(port)), 10) as connection:
            line = "POST /api/datasets/ada/set/commit/main HTTP/1.1\r\nHost: hub\r\nContent-Length: 100000000\r\n"
            connection.sendall(f"{line}{headers}\r\n".encode())
            assert status in connection.recv(100).split(b"\r\n")[0]


@pytest.mark.parametrize(
    "path",
    ["/api/datasets?cursor=" + base64.urlsafe_b64encode(b"[1,1e999]").decode(),
     "/api/datasets?cursor=" + base64.urlsafe_b64encode(b"[NaN,1]").decode(),
     "/api/datasets?" + "&".join(["search=a"] * 1100), "/api/datasets?filter=" + ",".join(["a"] * 1100),
     "/api/commentaries?sort=name&cursor=" + base64.urlsafe_b64encode(b'["name","\\ud800",1]').decode(),
     "/api/datasets/ada/set/revision/a%0d", "/api/datasets/ada/set/revision/a%20",
     "/api/datasets/ada/set/revision/%0dX-Evil:%201", "/datasets/ada/set/resolve/main/%0d"],
)  # fmt: skip
def test_odd_questions_are_the_askers_fault(hub, path):
    status, headers, _ = raw(hub, "GET", path)
    assert status in {400, 404}
    assert "X-Evil" not in headers


def test_options_of_the_whole_server_is_answered_like_any_request(hub):
    status, headers, _ = raw(hub, "OPTIONS", "*")
    assert status == 404
    assert "x-request-id" in headers


def test_the_log_holds_nothing_that_a_terminal_obeys(hub):
    with capture_logs() as lines:
        raw(hub, "GET", "/%1b]0;owned%07%0aforged%c2%9b")
        for _ in range(100):  # it is written after the reply
            if any("owned" in line["path"] for line in lines):
                break
            time.sleep(0.05)
    (path,) = [line["path"] for line in lines if "owned" in line["path"]]
    assert path == r"/\x1b]0;owned\x07\nforged\x9b"


def test_the_database_is_its_owners_alone(hub):
    for path in hub.folder.glob("hub.sqlite3*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_description_of_the_interface_runs_no_script_of_another_host(hub):
    status, headers, _ = raw(hub, "GET", "/docs")
    assert (status, headers["location"]) == (307, "/rest")
    status, headers, body = raw(hub, "GET", "/rest")
    assert status == 200
    assert "script-src 'self'" in headers["content-security-policy"]
    assert b"cdn" not in body


def test_nobody_completes_an_upload_of_what_another_sent(hub):
    """A completion proves the bytes by the parts, even where the hub has the object already."""
    data = os.urandom(300_000)
    sha256 = hashlib.sha256(data).hexdigest()
    hub.world.objects.put(f"objects/{sha256[:2]}/{sha256[2:4]}/{sha256}", [data])
    hub.world.history.note_upload(hub.repo, sha256, len(data))
    mine = hub.world.repositories.create("dataset", "ada", "mine", private=False)
    link = hub.world.signer.sign("lfs-done", mine.id, sha256, len(data), 1, hub.by, int(time.time()) + 60)
    assert raw(hub, "POST", f"/lfs/complete/{link}", b"{}")[0] == 400
    assert hub.world.history.holds(mine, sha256) is None
    link = hub.world.signer.sign("lfs-verify", mine.id, sha256, len(data), hub.by, int(time.time()) + 60)
    assert raw(hub, "POST", f"/lfs/verify/{link}", b"{}")[0] == 404


def test_of_two_uploads_at_once_the_broken_one_harms_nothing(hub):
    data = os.urandom(3_000_000)
    sha256 = hashlib.sha256(data).hexdigest()
    later = int(time.time()) + 60
    link = f"/lfs/put/{hub.world.signer.sign('lfs-put', hub.repo.id, sha256, len(data), hub.by, later)}"
    halfway, go = threading.Event(), threading.Event()
    broken = []

    def slow():
        yield data[:1_000_000]
        halfway.set()
        go.wait(30)
        yield bytes(2_000_000)

    def lose():
        broken.append(httpx2.put(f"{hub.url}{link}", content=slow(), timeout=60).status_code)

    loser = threading.Thread(target=lose)
    loser.start()
    halfway.wait(30)
    assert httpx2.put(f"{hub.url}{link}", content=data, timeout=60).status_code == 200
    go.set()
    loser.join()
    assert broken == [400]
    assert b"".join(hub.world.objects.stream(f"objects/{sha256[:2]}/{sha256[2:4]}/{sha256}", 0, len(data))) == data


def test_host_and_forwarding_headers_are_believed_from_front_servers_only(tmp_path):
    with running(tmp_path, public_url="https://hub.example") as hub:
        hub.ada = hub.token("ada")
        body = json.dumps({"name": "set", "type": "dataset"}).encode()
        headers = {"Content-Type": "application/json", "X-Forwarded-Host": "evil.example"}
        assert "secure" in raw(hub, "GET", "/sign-in")[1]["set-cookie"].lower()
        _, _, reply = raw(hub, "POST", "/api/repos/create", body, headers)
        assert json.loads(reply)["url"] == "https://hub.example/datasets/ada/set"
