"""What the newest client remembers of an upload never stops a later one: it keeps that by the store's address."""

import os
import subprocess
import sys

import httpx2
import pytest
from huggingface_hub import HfApi

from tests.server.hub.running import running

WORK = """
import sys
from huggingface_hub import HfApi
api, (path, name) = HfApi(), sys.argv[1:]
api.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
api.upload_file(path_or_fileobj=path, path_in_repo="a.bin", repo_id=name, repo_type="dataset")
assert api.get_paths_info(name, "a.bin", repo_type="dataset")[0].size == 300_000
"""


@pytest.fixture
def hub(tmp_path):
    with running(tmp_path / "data") as one:
        yield one


@pytest.fixture
def push(tmp_path):
    """Push one and the same file as somebody, always from one home folder, and so with one cache."""
    path = tmp_path / "a.bin"
    path.write_bytes(os.urandom(300_000))

    def pushed(hub, token, name):
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "HF_TOKEN": token}
        done = subprocess.run(
            [sys.executable, "-c", WORK, str(path), name], env=environment, capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]

    return pushed


def test_after_the_repository_was_deleted_the_same_file_can_be_pushed_again(hub, push):
    ada = hub.token("ada")
    push(hub, ada, "ada/set")
    hub.world.repositories.delete(hub.world.repositories.get("dataset", "ada/set"))
    push(hub, ada, "ada/set")


def test_what_another_account_has_in_private_can_be_pushed_too(hub, push):
    push(hub, hub.token("ada"), "ada/set")
    push(hub, hub.token("eve"), "eve/set")


def test_a_file_that_was_deleted_for_good_can_be_pushed_again(hub, push):
    ada = hub.token("ada")
    push(hub, ada, "ada/set")
    api = HfApi(hub.url, ada)
    api.delete_file("a.bin", "ada/set", repo_type="dataset")
    large = list(api.list_lfs_files("ada/set", repo_type="dataset"))
    api.permanently_delete_lfs_files("ada/set", large, rewrite_history=False, repo_type="dataset")
    push(hub, ada, "ada/set")


def test_a_new_data_folder_behind_the_same_address_knows_nothing_of_the_old_one(tmp_path, push):
    with running(tmp_path / "one") as hub:
        push(hub, hub.token("ada"), "ada/set")
    with running(tmp_path / "two", port=int(hub.url.rpartition(":")[2])) as hub:
        push(hub, hub.token("ada"), "ada/set")


def test_a_large_shard_is_told_that_the_newer_route_is_missing_not_that_it_is_too_large(hub):
    reply = httpx2.post(f"{hub.url}/cas/x/v2/shards", content=bytes(1 << 20))
    assert reply.status_code == 404  # at any other answer the client gives up
