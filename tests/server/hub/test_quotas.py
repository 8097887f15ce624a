"""Quotas over the wire: batches, links, parts, xorbs and commits, alone and together."""

import hashlib
import os
import time

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
)

from commentary_hub.errors import HubConflict
from commentary_hub_server.rules.xet import chunk_hash, to_text, xorb_hash
from tests.server.hub.asking import DATA, commit, http
from tests.server.hub.running import running
from tests.server.xet.test_hostile import chunk


def test_a_quota_counts_batches_and_what_is_on_its_way(tmp_path):
    """No upload is judged alone: a batch together, links that were signed before, parts and xorbs without a file."""
    with running(tmp_path, quota_bytes=100_000) as hub:
        api = HfApi(endpoint=hub.url, token=hub.token("ada"))
        for name in ("set", "parts", "xorbs"):
            api.create_repo(f"ada/{name}", repo_type=DATA)
        batch = "/datasets/ada/{}.git/info/lfs/objects/batch"
        data = [os.urandom(60_000) for _ in range(2)]
        objects = [{"oid": hashlib.sha256(one).hexdigest(), "size": len(one)} for one in data]
        ask = {"operation": "upload", "objects": objects}
        assert http(api, "POST", batch.format("set"), json=ask).status_code == 403

        number, later = hub.world.repositories.get("dataset", "ada/parts").id, int(time.time()) + 60
        by = hub.world.directory.by_token(api.token).token_id
        parts = [hub.world.signer.sign("lfs-part", number, one["oid"], 60_000, 1, by, later) for one in objects]
        # The first one is sent again, as by a client whose answer was lost, and replaces itself.
        sent = [httpx2.put(f"{hub.url}/lfs/part/{parts[n]}", content=data[n]).status_code for n in (0, 0, 1)]
        assert sent == [200, 200, 403]
        hub.world.uploads.forget_parts(f"{number}-{objects[0]['oid']}", 1)

        token = http(api, "GET", "/api/datasets/ada/xorbs/xet-write-token/main").json()["accessToken"]
        for one, status in zip(data, (200, 403), strict=True):
            name = to_text(xorb_hash([(chunk_hash(one), len(one))]))
            address, headers = f"{hub.url}/cas/x/v1/xorbs/default/{name}", {"Authorization": f"Bearer {token}"}
            assert httpx2.post(address, content=chunk(one), headers=headers).status_code == status
        api.delete_repo("ada/xorbs", repo_type=DATA)

        links = [http(api, "POST", batch.format("set"), json={**ask, "objects": [one]}).json() for one in objects]
        links = [link["objects"][0]["actions"]["upload"]["href"] for link in links]
        assert [httpx2.put(link, content=one).status_code for link, one in zip(links, data, strict=True)] == [200, 403]
        repo = hub.world.repositories.get("dataset", "ada/set")
        with pytest.raises(HubConflict, match="100,000 bytes allowed"):  # the last word is under the lock
            hub.world.history.note_upload(repo, objects[1]["oid"], 60_000)
        assert hub.world.history.holds(repo, objects[1]["oid"]) is None


def test_a_quota_holds_however_the_bytes_come(tmp_path):
    with running(tmp_path, quota_bytes=100_000) as hub:
        api = HfApi(endpoint=hub.url, token=hub.token("ada"))
        api.create_repo("ada/set", repo_type=DATA)
        commit(api, "ada/set", {"a.txt": b"x" * 60_000})
        with pytest.raises(HfHubHTTPError, match="100,000 bytes allowed"):
            commit(api, "ada/set", {"b.txt": b"y" * 60_000})
        ask = {"operation": "upload", "objects": [{"oid": "a" * 64, "size": 60_000}]}
        assert http(api, "POST", "/datasets/ada/set.git/info/lfs/objects/batch", json=ask).status_code == 403
        with pytest.raises(Exception, match="403"):
            api.upload_file(path_or_fileobj=os.urandom(2_000_000), path_in_repo="c", repo_id="ada/set", repo_type=DATA)
        hub.world.directory.set_quota("ada", 0)  # the administrator lifts it for one owner
        api.upload_file(path_or_fileobj=os.urandom(2_000_000), path_in_repo="c", repo_id="ada/set", repo_type=DATA)
        assert sorted(api.list_repo_files("ada/set", repo_type=DATA)) == ["a.txt", "c"]


def test_an_upload_that_is_sent_again_is_not_charged_again(tmp_path):
    """A client whose answer was lost repeats itself, where there is no room for a second time."""
    with running(tmp_path, quota_bytes=100_000) as hub:
        api = HfApi(endpoint=hub.url, token=hub.token("ada"))
        for name in ("lfs", "xorbs"):
            api.create_repo(f"ada/{name}", repo_type=DATA)
        data = os.urandom(60_000)
        ask = {"operation": "upload", "objects": [{"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}]}
        token = http(api, "GET", "/api/datasets/ada/xorbs/xet-write-token/main").json()["accessToken"]
        name = to_text(xorb_hash([(chunk_hash(data), len(data))]))
        address, headers = f"{hub.url}/cas/x/v1/xorbs/default/{name}", {"Authorization": f"Bearer {token}"}
        sent = [httpx2.post(address, content=chunk(data), headers=headers) for _ in range(3)]
        assert [(one.status_code, one.json()) for one in sent] == [(200, {"was_inserted": n == 0}) for n in range(3)]
        api.delete_repo("ada/xorbs", repo_type=DATA)
        batch = http(api, "POST", "/datasets/ada/lfs.git/info/lfs/objects/batch", json=ask).json()
        link = batch["objects"][0]["actions"]["upload"]["href"]
        assert [httpx2.put(link, content=data).status_code for _ in range(3)] == [200] * 3
        for _ in range(3):
            commit(api, "ada/lfs", {"a.txt": b"x" * 39_000})
        assert hub.world.repositories.get("dataset", "ada/lfs").size_bytes == 99_000
