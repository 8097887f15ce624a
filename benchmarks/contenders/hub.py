"""Servers and clients as processes of their own: the hub, nginx, a bare FileResponse; huggingface_hub, curl."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]

PYTHONPATH = os.pathsep.join([str(ROOT), str(ROOT / "server")])
SERVE = [sys.executable, "-c", "from commentary_hub.cli import main; main()", "serve", "--port", "0"]
FILE_RESPONSE = """
import socket, sys, uvicorn
from starlette.responses import FileResponse
async def app(scope, receive, send):
    if scope["type"] == "http":
        await FileResponse(sys.argv[1])(scope, receive, send)
listener = socket.socket(); listener.bind(("127.0.0.1", int(sys.argv[2]))); listener.listen(64)
uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off")).run(sockets=[listener])
"""
UPLOAD = """
import sys, time
from huggingface_hub import HfApi
began = time.perf_counter()
HfApi().upload_file(path_or_fileobj=sys.argv[1], path_in_repo=sys.argv[2], repo_id="ada/set", repo_type="dataset")
print(time.perf_counter() - began)
"""
NGINX = """
daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; tcp_nopush on; client_max_body_size 0;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location /plain/ {{ alias {plain}/; }}
    location /objects/ {{ internal; alias {objects}/; }}
    location / {{ proxy_pass {hub}; proxy_set_header Host $http_host; }}
  }}
}}
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def process(command, url=None, **settings):
    """A process that is ended at the end; waits until ``url`` answers."""
    one = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **settings)
    try:
        for _ in range(300):
            if url is None:
                break
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
                break
            time.sleep(0.1)
        yield one
    finally:
        one.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.wait(20)
        one.kill()
        one.stdout.close()


@contextlib.contextmanager
def hub(folder, *options, **variables):
    """The hub as a process; yields its address."""
    environment = os.environ | {"PYTHONPATH": PYTHONPATH} | variables
    with process([*SERVE, "--data-dir", str(folder), *options], env=environment) as one:
        while "Commentary Hub on" not in (line := one.stdout.readline()):
            assert line, "the hub did not start"
        url = re.search(r"http://\S+", line)[0].replace("localhost", "127.0.0.1")
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/readyz", timeout=5):
                break
            time.sleep(0.1)
        yield url


def world_at(folder):
    from commentary_hub_server.app import open_world
    from commentary_hub_server.settings import Settings

    return open_world(Settings(data_dir=folder))


def curl(*arguments):
    """Bytes per second of one transfer."""
    form = "%{http_code} %{speed_download} %{speed_upload} %{time_total}"
    done = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", form, *arguments], capture_output=True, check=True)
    code, down, up, _ = done.stdout.decode().split()
    assert code == "200", code
    return max(float(down), float(up))


class Counter:
    """A relay on the loopback that counts what a client sends and receives."""

    def __init__(self, target):
        self.sent = self.received = 0
        self._target = target
        self._loop, self._ready = asyncio.new_event_loop(), threading.Event()
        threading.Thread(target=self._run, daemon=True).start()
        self._ready.wait()

    def _run(self):
        async def begin():
            server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self._ready.set()

        self._loop.run_until_complete(begin())
        self._loop.run_forever()

    async def _relay(self, reader, writer):
        host, port = self._target.removeprefix("http://").split(":")
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(
            self._pump(reader, there_writer, "sent"), self._pump(there_reader, writer, "received"),
            return_exceptions=True,
        )  # fmt: skip

    async def _pump(self, reader, writer, name):
        try:
            while piece := await reader.read(1 << 16):
                setattr(self, name, getattr(self, name) + len(piece))
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()


def client_upload(url, token, path, name, home, **variables):
    """Seconds that huggingface_hub takes to upload a file, in a fresh process with an empty cache."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "HF_ENDPOINT": url, "HF_TOKEN": token}
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} | variables
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", UPLOAD, str(path), name], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[-1])


def send(url, path, body, token, kind="application/json"):
    request = urllib.request.Request(f"{url}{path}", body, {"Authorization": f"Bearer {token}", "Content-Type": kind})
    with urllib.request.urlopen(request, timeout=600) as reply:
        return json.load(reply)


def lfs_link(url, token, sha256, size):
    ask = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": sha256, "size": size}]}
    batch = send(url, "/datasets/ada/set.git/info/lfs/objects/batch", json.dumps(ask).encode(), token)
    return batch["objects"][0]["actions"]["upload"]["href"]
