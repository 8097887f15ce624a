"""Large files by LFS: multipart uploads, signed links, listing, deletion, copies."""

import hashlib
import json
import os
import time
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationCopy
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
)

from tests.server.hub.asking import DATA, commit, http


def test_lfs_multipart_and_its_links(hub, api, repo, monkeypatch):
    from commentary_hub_server.routes.hub import _lfs

    monkeypatch.setattr(_lfs, "MULTIPART_BYTES", 1 << 20)
    data = os.urandom((2 << 20) + 1000)
    sha256 = hashlib.sha256(data).hexdigest()
    ask = {"operation": "upload", "transfers": ["basic", "multipart"], "objects": [{"oid": sha256, "size": len(data)}]}
    reply = http(api, "POST", f"/datasets/{repo}.git/info/lfs/objects/batch", json=ask).json()
    assert reply["transfer"] == "multipart"
    actions = reply["objects"][0]["actions"]
    parts = {int(n): url for n, url in actions["upload"]["header"].items() if n.isdigit()}
    assert sorted(parts) == [1, 2, 3]
    done = {"oid": sha256, "parts": []}

    def put(number, content):
        return httpx2.put(parts[number], content=content, timeout=30)

    for number in (1, 3):
        assert put(number, data[(number - 1) << 20 : number << 20]).headers["etag"]
    assert httpx2.post(actions["upload"]["href"], json=done).status_code == 400  # a part is missing
    assert put(2, b"wrong".ljust(1 << 20)).status_code == 200
    assert httpx2.post(actions["upload"]["href"], json=done).status_code == 400  # another content
    assert put(2, data[: 1 << 19]).status_code == 400  # cut short
    assert put(2, data[1 << 20 : 2 << 20] + b"x").status_code == 400  # too long
    assert hub.world.objects.size(f"objects/{sha256[:2]}/{sha256[2:4]}/{sha256}") is None
    assert put(2, data[1 << 20 : 2 << 20]).status_code == 200
    for _ in range(2):  # a completion that is sent again says the same
        assert httpx2.post(actions["upload"]["href"], json=done).status_code == 200
    assert httpx2.post(actions["verify"]["href"], json=done).status_code == 200
    assert list(hub.world.objects.keys("parts")) == []
    line = {"key": "lfsFile", "value": {"path": "a.bin", "algo": "sha256", "oid": sha256, "size": len(data)}}
    body = "\n".join(json.dumps(one) for one in ({"key": "header", "value": {"summary": "x"}}, line))
    assert http(api, "POST", f"/api/datasets/{repo}/commit/main", content=body).status_code == 200
    assert http(api, "GET", f"/datasets/{repo}/resolve/main/a.bin").content == data
    ask = {"operation": "download", "objects": [{"oid": sha256, "size": len(data)}]}
    reply = http(api, "POST", f"/datasets/{repo}.git/info/lfs/objects/batch", json=ask).json()
    assert httpx2.get(reply["objects"][0]["actions"]["download"]["href"], timeout=30).content == data


def test_links_expire_and_open_one_thing(hub, api, repo):
    number, by = hub.world.repositories.get(DATA, repo).id, hub.world.directory.by_token(api.token).token_id
    sign, later, oid = hub.world.signer.sign, int(time.time()) + 60, "a" * 64
    for token in (
        sign("lfs-put", number, oid, 5, by, int(time.time()) - 1),
        sign("lfs-get", number, oid, 5, 0, later),
        sign("lfs-put", number, oid, 5, by, later)[:-4] + "AAAA",
        "nonsense",
    ):
        assert httpx2.put(f"{hub.url}/lfs/put/{token}", content=b"hello").status_code == 403
    assert (
        httpx2.put(f"{hub.url}/lfs/put/{sign('lfs-put', 10**9, oid, 5, by, later)}", content=b"hello").status_code
        == 404
    )
    assert (
        httpx2.put(f"{hub.url}/lfs/put/{sign('lfs-put', number, oid, 5, by, later)}", content=b"hello").status_code
        == 400
    )


def test_large_files_are_listed_deleted_and_copied(hub, api, repo, tmp_path):
    data = os.urandom(2_000_000)
    commit(api, repo, {"big.bin": data, "small.txt": b"small"})
    (line,) = api.list_lfs_files(repo, repo_type=DATA)
    assert (line.filename, line.size, line.ref) == ("big.bin", 2_000_000, "main")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.permanently_delete_lfs_files(repo, [line], repo_type=DATA)
    api.create_repo("ada/copies", repo_type=DATA)
    api.create_commit(
        "ada/copies", [CommitOperationCopy("big.bin", "there.bin", src_repo_id=repo, src_repo_type=DATA)],
        commit_message="copy", repo_type=DATA,
    )  # fmt: skip
    old = api.delete_file("big.bin", repo, repo_type=DATA, parent_commit=api.dataset_info(repo).sha)
    before = api.list_repo_commits(repo, repo_type=DATA)[1].commit_id
    api.permanently_delete_lfs_files(repo, [line], repo_type=DATA)
    assert list(api.list_lfs_files(repo, repo_type=DATA)) == []
    assert api.list_repo_files(repo, repo_type=DATA, revision=before) == ["big.bin", "small.txt"]
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download(repo, "big.bin", repo_type=DATA, revision=before, cache_dir=tmp_path)
    assert old.oid
    path = api.hf_hub_download("ada/copies", "there.bin", repo_type=DATA, cache_dir=tmp_path)
    assert Path(path).read_bytes() == data
