"""The files that put the hub into service: what they name exists, and a client works through nginx as configured."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx2
import pytest
import typer.main
import yaml
from huggingface_hub import HfApi

from commentary_hub.cli._main import build_app
from commentary_hub.hub._ranges import parts
from commentary_hub_server.settings import variables
from tests.server.hub.running import running

SERVER = Path(__file__).parents[3] / "server"


def test_the_files_name_settings_and_options_that_exist():
    compose = yaml.safe_load((SERVER / "compose.yaml").read_text())
    dockerfile = (SERVER / "Dockerfile").read_text()
    known = {name for name, _, _ in variables()}
    named = set(re.findall(r"COMMENTARY_HUB_[A-Z_]+", dockerfile + (SERVER / "nginx.conf").read_text()))
    named |= {name for name in compose["services"]["hub"]["environment"] if name.startswith("COMMENTARY_HUB_")}
    assert named <= known
    serve = typer.main.get_command(build_app()).commands["serve"]
    options = {one for parameter in serve.params for one in parameter.opts}
    assert set(re.findall(r'"(--[a-z-]+)"', dockerfile.split("\nCMD")[1])) <= options
    root = SERVER.parent
    copied = [one for line in re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.MULTILINE) for one in line.split()]
    assert copied
    assert all((root / one).exists() for one in copied)


needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx (Debian: apt-get install nginx-light)")


@contextlib.contextmanager
def fronted(hub, folder):
    """nginx as configured in front of a hub in ``folder``/hub; yields its port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    text = (SERVER / "nginx.conf").read_text()
    text = text.replace("server hub:8765", f"server {hub.url.removeprefix('http://')}")
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};").replace(
        "worker_processes auto", "worker_processes 1"
    )
    text = text.replace("/data/objects/", f"{folder}/hub/objects/")
    places = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = text.replace("http {", f"http {{ {places}")
    (folder / "nginx.conf").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""
    command = ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "errors")]
    front = subprocess.Popen([*command, "-g", f"daemon off; pid {folder}/pid; {user}"])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield port
    finally:
        front.terminate()
        front.wait(20)


@needs_nginx
@pytest.mark.parametrize("proxy_hosts", ["127.0.0.1", "*"])
def test_behind_the_front_server_nobody_chooses_the_address_that_limits_count_by(tmp_path, proxy_hosts):
    with running(tmp_path / "hub", proxy_hosts=proxy_hosts, rate_limit=20) as hub, fronted(hub, tmp_path) as port:
        address = f"http://127.0.0.1:{port}/healthz"

        def left(client, forged):
            return client.get(address, headers={"X-Forwarded-For": forged}).headers["ratelimit"].partition("r=")[2][:2]

        with httpx2.Client() as one:
            assert [left(one, f"192.0.2.{n}, 198.51.100.{n}") for n in range(3)] == ["19", "18", "17"]
        with httpx2.Client(transport=httpx2.HTTPTransport(local_address="127.0.0.2")) as another:
            assert left(another, "127.0.0.1") == "19"  # whom the front server names is believed


@needs_nginx
def test_a_client_works_through_the_front_server(tmp_path):
    hub_settings = {"proxy_hosts": "127.0.0.1", "accel_prefix": "/objects"}
    with running(tmp_path / "hub", **hub_settings) as hub, fronted(hub, tmp_path) as port:
        api = HfApi(endpoint=f"http://127.0.0.1:{port}", token=hub.token("ada"))
        made = api.create_repo("ada/set", repo_type="dataset")
        assert made.url.startswith(f"http://127.0.0.1:{port}/")
        big = os.urandom(3_000_000)
        api.upload_file(path_or_fileobj=big, path_in_repo="a b/big.bin", repo_id="ada/set", repo_type="dataset")
        api.create_branch("ada/set", branch="side/x", repo_type="dataset")
        path = api.hf_hub_download(
            "ada/set", "a b/big.bin", repo_type="dataset", revision="side/x", cache_dir=tmp_path / "cache"
        )
        assert Path(path).read_bytes() == big
        text = b"".join(b"%07d " % n for n in range(62_500))  # 500,000 bytes: an object that nginx sends
        api.upload_file(path_or_fileobj=text, path_in_repo="t.txt", repo_id="ada/set", repo_type="dataset")
        path = api.hf_hub_download("ada/set", "t.txt", repo_type="dataset", cache_dir=tmp_path / "cache")
        assert Path(path).read_bytes() == text
        address = f"http://127.0.0.1:{port}/datasets/ada/set/resolve/main/t.txt"
        reply = httpx2.get(address, headers={"Range": "bytes=5-9"}, timeout=30)
        assert (reply.status_code, reply.content, reply.headers["content-range"]) == (
            206, text[5:10], "bytes 5-9/500000",
        )  # fmt: skip
        several = httpx2.get(address, headers={"Range": "bytes=0-9,400000-400099"}, timeout=30)
        pieces = parts(several.headers["content-type"], several.content)
        assert (several.status_code, pieces) == (206, [(0, text[:10]), (400_000, text[400_000:400_100])])
        direct = httpx2.head(f"{hub.url}/datasets/ada/set/resolve/main/t.txt", timeout=30)
        for name in ("etag", "x-repo-commit", "x-content-type-options", "content-security-policy",
                     "content-disposition", "content-type", "vary", "cache-control"):  # fmt: skip
            assert reply.headers[name] == direct.headers[name], name
        assert reply.headers["x-request-id"]
