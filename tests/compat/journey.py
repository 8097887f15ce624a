"""What a user of huggingface_hub does, from 0.36 to today; run by an interpreter that has that version.

``python journey.py FOLDER`` with HF_ENDPOINT and HF_TOKEN; prints what was used as JSON, or fails.
"""

import json
import os
import sys
from pathlib import Path

import huggingface_hub
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.utils import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

KIND = "dataset"


def fails_with(kind, call, *arguments, **settings):
    try:
        call(*arguments, **settings)
    except kind:
        return
    raise AssertionError(f"{call} did not raise {kind}")


def main(folder):
    api = HfApi()
    me = api.whoami()["name"]
    repo = f"{me}/journey-{huggingface_hub.__version__.replace('.', '-')}-{os.environ.get('JOURNEY', 'x')}"
    big = os.urandom(3_000_000)
    api.create_repo(repo, repo_type=KIND)
    api.create_repo(repo, repo_type=KIND, exist_ok=True)
    card = b"---\nlicense: mit\ntags: [commentary]\n---\n# Hello\n"
    start = api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo, repo_type=KIND).oid

    up = folder / "up"
    (up / "plots").mkdir(parents=True)
    (up / "weights.bin").write_bytes(big)
    (up / "plots" / "a b.txt").write_text("text")
    api.upload_folder(folder_path=str(up), repo_id=repo, repo_type=KIND)
    names = {"README.md", "weights.bin", "plots/a b.txt"}
    assert set(api.list_repo_files(repo, repo_type=KIND)) == names
    down = Path(snapshot_download(repo, repo_type=KIND, cache_dir=str(folder / "cache")))
    assert (down / "weights.bin").read_bytes() == big
    assert (down / "plots" / "a b.txt").read_text() == "text"

    operations = [CommitOperationAdd("more.bin", big[::-1]), CommitOperationDelete("plots/", is_folder=True)]
    api.create_commit(repo, operations, commit_message="more and less", repo_type=KIND)
    assert set(api.list_repo_files(repo, repo_type=KIND)) == {"README.md", "weights.bin", "more.bin"}
    got = hf_hub_download(repo, "README.md", repo_type=KIND, revision=start, cache_dir=str(folder / "cache"))
    assert Path(got).read_bytes() == card
    info = api.dataset_info(repo, files_metadata=True)
    assert {one.rfilename: one.size for one in info.siblings}["more.bin"] == len(big)
    assert "license:mit" in info.tags

    api.create_tag(repo, tag="v1", revision=start, repo_type=KIND)
    api.create_branch(repo, branch="side/way", repo_type=KIND)
    assert {one.name for one in api.list_repo_refs(repo, repo_type=KIND).branches} == {"main", "side/way"}
    assert set(api.list_repo_files(repo, revision="v1", repo_type=KIND)) == {"README.md"}
    assert api.list_repo_commits(repo, repo_type=KIND)[0].title == "more and less"
    tree = {one.path: one for one in api.list_repo_tree(repo, repo_type=KIND, expand=True)}
    assert tree["README.md"].last_commit.oid == start
    assert [one.path for one in api.get_paths_info(repo, ["more.bin", "nothing"], repo_type=KIND)] == ["more.bin"]
    assert repo in [one.id for one in api.list_datasets(author=me, filter="commentary")]

    files = HfFileSystem(skip_instance_cache=True)
    with files.open(f"datasets/{repo}/from-fs.txt", "w") as file:
        file.write("hello")
    with files.open(f"datasets/{repo}/weights.bin", "rb") as file:
        file.seek(1_000_000)
        assert file.read(10) == big[1_000_000:1_000_010]

    fails_with(RepositoryNotFoundError, api.dataset_info, f"{me}/nothing-there")
    fails_with(RevisionNotFoundError, api.dataset_info, repo, revision="nowhere")
    fails_with(EntryNotFoundError, hf_hub_download, repo, "nothing", repo_type=KIND, cache_dir=str(folder / "cache"))
    api.super_squash_history(repo, repo_type=KIND)
    assert len(api.list_repo_commits(repo, repo_type=KIND)) == 1
    api.move_repo(repo, f"{repo}-moved", repo_type=KIND)
    assert api.dataset_info(repo).id == f"{repo}-moved"
    got = hf_hub_download(repo, "from-fs.txt", repo_type=KIND, cache_dir=str(folder / "cache"), force_download=True)
    assert Path(got).read_text() == "hello"
    api.delete_repo(f"{repo}-moved", repo_type=KIND)
    fails_with(RepositoryNotFoundError, api.dataset_info, f"{repo}-moved")
    print(json.dumps({"huggingface_hub": huggingface_hub.__version__}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
