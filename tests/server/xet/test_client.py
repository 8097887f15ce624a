"""The unmodified huggingface_hub and hf_xet against the Xet routes, each step in a fresh process and client cache."""

import hashlib
import json
import os
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response

from commentary_hub_server.routes.xet import Allowed, build_router
from commentary_hub_server.rules.xet import MemoryIndex, MemoryXorbs, Scope, Signer, XetService, to_text

UPLOAD = """
import sys
from huggingface_hub import HfApi
HfApi().upload_file(path_or_fileobj=sys.argv[1], path_in_repo="a.bin", repo_id="me/m")
"""
DOWNLOAD = "from huggingface_hub import hf_hub_download; print(hf_hub_download('me/m', 'a.bin'))"


class Hub:
    """Xet routes plus the few hub routes that an upload and a download need."""

    def __init__(self) -> None:
        self.xorbs, self.index = MemoryXorbs(), MemoryIndex()
        self.service = XetService(
            self.xorbs, self.index, Signer(secrets.token_bytes(32)), lambda scope, repo: repo == scope.repo
        )
        self.oid, self.size, self.received, self.calls = "", 0, 0, list[str]()
        app = FastAPI()

        @app.middleware("http")
        async def count(request: Request, call):  # type: ignore[no-untyped-def]
            self.received += int(request.headers.get("content-length", 0))
            reply = await call(request)
            self.calls.append(f"{request.method} {request.url.path} {reply.status_code}")
            return reply

        app.include_router(
            build_router(self.service, lambda _request, _kind, repo, _permission: Allowed("me", repo, 0))
        )

        @app.post("/api/models/me/m/preupload/main")
        async def preupload(request: Request) -> dict[str, object]:
            files = (await request.json())["files"]
            return {"files": [{"path": f["path"], "uploadMode": "lfs", "shouldIgnore": False} for f in files]}

        @app.post("/api/models/me/m/commit/main")
        async def commit(request: Request) -> dict[str, object]:
            for line in (await request.body()).splitlines():
                row = json.loads(line)
                if row["key"] == "lfsFile":
                    self.oid, self.size = row["value"]["oid"], row["value"]["size"]
            return {"success": True, "commitOid": "0" * 40, "commitUrl": f"{request.base_url}me/m/commit/" + "0" * 40}

        @app.api_route("/me/m/resolve/main/a.bin", methods=["HEAD"])
        def head(request: Request) -> Response:
            file = self.index.by_sha256("me/m", bytes.fromhex(self.oid))
            assert file is not None
            auth = f'<{request.base_url}api/models/me/m/xet-read-token/main>; rel="xet-auth"'
            headers = {"X-Repo-Commit": "0" * 40, "ETag": f'"{self.oid}"', "X-Linked-Size": str(self.size)}
            return Response(headers=headers | {"X-Xet-Hash": to_text(file.hash), "Link": auth})

        self.app = app


@pytest.fixture
def hub() -> Iterator[tuple[Hub, str]]:
    state = Hub()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(state.app, log_level="error", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield state, f"http://127.0.0.1:{sock.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


def client(url: str, home: Path, code: str, *args: str) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "HF_ENDPOINT": url, "HF_TOKEN": "hf_test"}
    done = subprocess.run(
        [sys.executable, "-c", code, *args], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_edit_costs_what_it_changes(hub: tuple[Hub, str], tmp_path: Path) -> None:
    state, url = hub
    data = bytearray(os.urandom(64_000_000))
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    client(url, tmp_path / "one", UPLOAD, str(path))
    assert state.oid == hashlib.sha256(data).hexdigest()
    sent, stored = state.received, sum(map(len, state.xorbs.data.values()))
    assert stored >= len(data)

    data[30_000_000:30_001_000] = os.urandom(1000)
    path.write_bytes(data)
    client(url, tmp_path / "two", UPLOAD, str(path))
    sent, stored = state.received - sent, sum(map(len, state.xorbs.data.values())) - stored
    print("edit: sent", sent, "stored", stored)
    assert stored < 400_000, state.calls
    assert sent < 1_000_000, state.calls

    fetched = Path(client(url, tmp_path / "three", DOWNLOAD).splitlines()[-1])
    assert fetched.read_bytes() == data, state.calls
    assert any("/v1/xorb-bytes/" in call for call in state.calls)

    scope = Scope("me", "me/m", "read", int(time.time()) + 60)
    file = state.index.by_sha256("me/m", bytes.fromhex(state.oid))
    assert file is not None
    for low, high in ((0, 1), (29_999_990, 30_002_000), (63_999_999, 64_000_000), (5, 64_000_000)):
        assert b"".join(state.service.read(scope, file.hash, low, high)) == data[low:high]


def test_golden_vectors(hub: tuple[Hub, str], tmp_path: Path) -> None:
    """The client's own grouping and compression (floats), and its hashes against the stored fixture."""
    state, url = hub
    data = b"".join(struct.pack("<f", 1 + index / 1e6) for index in range(60_000))
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    client(url, tmp_path / "one", UPLOAD, str(path))
    file = state.index.by_sha256("me/m", hashlib.sha256(data).digest())
    assert file is not None
    (name,) = state.xorbs.data
    xorb = state.index.xorb(name)
    assert xorb is not None
    found = {
        "file": to_text(file.hash),
        "xorb": to_text(name),
        "proofs": [to_text(segment.proof or b"") for segment in file.segments],
        "schemes": sorted({state.xorbs.data[name][chunk.offset + 4] for chunk in xorb.chunks}),
    }
    assert found == json.loads((Path(__file__).parent / "golden.json").read_text())
    scope = Scope("me", "me/m", "read", int(time.time()) + 60)
    assert b"".join(state.service.read(scope, file.hash)) == data
