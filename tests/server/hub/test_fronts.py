"""Behind a front server: links name the public address, and files are handed over."""

import hashlib
import os

import httpx2
from huggingface_hub import HfApi

from tests.server.hub.asking import DATA, commit, http
from tests.server.hub.running import running


def test_a_public_address_is_used_in_every_link(tmp_path):
    with running(tmp_path, public_url="https://hub.example/sub") as hub:
        token = hub.token("ada")
        api = HfApi(endpoint=hub.url, token=token)
        made = http(api, "POST", "/api/repos/create", json={"name": "set", "type": DATA}).json()
        assert made["url"] == "https://hub.example/sub/datasets/ada/set"
        access = http(api, "GET", "/api/datasets/ada/set/xet-write-token/main").json()
        assert access["casUrl"].startswith("https://hub.example/sub/cas/")
        ask = {"operation": "upload", "objects": [{"oid": "a" * 64, "size": 5}]}
        batch = http(api, "POST", "/datasets/ada/set.git/info/lfs/objects/batch", json=ask).json()
        assert batch["objects"][0]["actions"]["upload"]["href"].startswith("https://hub.example/sub/lfs/put/")
        api.move_repo("ada/set", "ada/moved", repo_type=DATA)
        moved = http(api, "HEAD", "/datasets/ada/set/resolve/main/a.txt").headers["location"]
        assert moved == "/sub/datasets/ada/moved/resolve/main/a.txt"
        http(api, "POST", "/api/repos/create", json={"name": "other", "type": DATA})
        link = http(api, "GET", "/api/datasets?limit=1").links["next"]["url"]
        assert link.startswith("https://hub.example/sub/api/datasets?limit=1&cursor=")


def test_a_front_server_is_told_which_file_to_send(tmp_path):
    data = os.urandom(200_000)
    sha256 = hashlib.sha256(data).hexdigest()
    with running(tmp_path, accel_prefix="/objects") as hub:
        api = HfApi(endpoint=hub.url, token=hub.token("ada"))
        api.create_repo("ada/set", repo_type=DATA)
        ask = {"operation": "upload", "objects": [{"oid": sha256, "size": len(data)}]}
        batch = http(api, "POST", "/datasets/ada/set.git/info/lfs/objects/batch", json=ask).json()
        assert httpx2.put(batch["objects"][0]["actions"]["upload"]["href"], content=data).status_code == 200
        commit(api, "ada/set", {"big.bin": data, "small.txt": b"small"})
        reply = http(api, "GET", "/datasets/ada/set/resolve/main/big.bin")
        key = reply.headers["x-accel-redirect"].removeprefix("/objects/")
        assert hub.world.objects.read(key) == data
        assert reply.content == b""
        assert reply.headers["etag"] == f'"{sha256}"'
        assert http(api, "HEAD", "/datasets/ada/set/resolve/main/big.bin").headers["content-length"] == "200000"
        assert http(api, "GET", "/datasets/ada/set/resolve/main/small.txt").content == b"small"
