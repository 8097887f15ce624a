"""Today's huggingface_hub, unmodified, against a running hub."""

import email
import os
from pathlib import Path

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from commentary_hub.hub._ranges import parts
from tests.server.hub.asking import DATA


def put(api, repo, path, data, **settings):
    return api.upload_file(path_or_fileobj=data, path_in_repo=path, repo_id=repo, repo_type=DATA, **settings)


def get(api, repo, path, tmp_path, **settings):
    return Path(
        hf_hub_download(
            repo, path, repo_type=DATA, endpoint=api.endpoint, token=api.token, cache_dir=tmp_path, **settings
        )
    ).read_bytes()


def test_whoami(hub, api):
    hub.world.directory.add_org("noether-lab", member="ada")
    me = api.whoami()
    assert me["name"] == "ada"
    assert [org["name"] for org in me["orgs"]] == ["noether-lab"]
    assert me["auth"]["accessToken"]["role"] == "write"


def test_a_wrong_token_is_refused(hub):
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(endpoint=hub.url, token="hf_wrong_wrong").whoami()


def test_small_text_and_large_binary_files_round_trip(api, repo, tmp_path):
    big = os.urandom(3_000_000)
    (tmp_path / "up" / "plots").mkdir(parents=True)
    (tmp_path / "up" / "README.md").write_text("---\ntags: [commentary]\nlicense: mit\n---\n# Hello\n")
    (tmp_path / "up" / "weights.bin").write_bytes(big)
    (tmp_path / "up" / "plots" / "a b+ü.txt").write_text("x")
    (tmp_path / "up" / "empty").write_bytes(b"")
    api.upload_folder(folder_path=tmp_path / "up", repo_id=repo, repo_type=DATA)
    assert sorted(api.list_repo_files(repo, repo_type=DATA)) == ["README.md", "empty", "plots/a b+ü.txt", "weights.bin"]
    down = Path(
        snapshot_download(repo, repo_type=DATA, endpoint=api.endpoint, token=api.token, cache_dir=tmp_path / "c")
    )
    assert (down / "weights.bin").read_bytes() == big
    assert (down / "plots" / "a b+ü.txt").read_text() == "x"
    info = api.dataset_info(repo, files_metadata=True)
    assert info.tags == ["commentary", "license:mit"]
    assert {s.rfilename: s.size for s in info.siblings}["weights.bin"] == 3_000_000
    assert next(s.lfs.size for s in info.siblings if s.rfilename == "weights.bin") == 3_000_000


def test_the_same_upload_again_makes_no_commit(api, repo):
    first = put(api, repo, "a.txt", b"one")
    again = put(api, repo, "a.txt", b"one")
    assert again.oid == first.oid


def test_ranges_and_conditions(hub, api, repo):
    from huggingface_hub import get_session

    data = bytes(range(256)) * 40
    put(api, repo, "r.bin", data)
    url = f"{hub.url}/datasets/{repo}/resolve/main/r.bin"
    session = get_session()
    whole = session.get(url)
    assert (whole.status_code, whole.content) == (200, data)
    for text, start, end in (("0-99", 0, 100), ("100-", 100, None), ("-5", len(data) - 5, None)):
        part = session.get(url, headers={"Range": f"bytes={text}"})
        assert (part.status_code, part.content) == (206, data[start:end])
    beyond = session.get(url, headers={"Range": "bytes=99999-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(data)}")
    etag = whole.headers["etag"]
    assert session.get(url, headers={"If-None-Match": etag}).status_code == 304
    assert session.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'}).status_code == 200
    head = session.head(url)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))
    assert "sandbox" in whole.headers["content-security-policy"]


@pytest.mark.parametrize("size", [10_240, 300_000])  # in the database, in the store
def test_several_ranges_are_parts_of_one_answer_and_what_overlaps_is_the_whole(hub, api, repo, size):
    from huggingface_hub import get_session

    data = bytes(n * 7 % 251 for n in range(size))
    put(api, repo, "r.bin", data)
    url = f"{hub.url}/datasets/{repo}/resolve/main/r.bin"

    def ask(ranges, method="GET", **headers):
        return get_session().request(method, url, headers={"Range": f"bytes={ranges}", **headers})

    spans = [(0, 10), (10, 11), (500, 9_000), (size - 3, size + 50)]
    text = ", ".join(f"{start}-{stop - 1}" for start, stop in spans)
    answer = ask(text)
    assert (answer.status_code, len(answer.content)) == (206, int(answer.headers["content-length"]))
    message = email.message_from_bytes(
        b"Content-Type: " + answer.headers["content-type"].encode() + b"\r\n\r\n" + answer.content
    )
    assert [part["Content-Range"] for part in message.get_payload()] == [
        f"bytes {start}-{min(stop, size) - 1}/{size}" for start, stop in spans
    ]
    assert parts(answer.headers["content-type"], answer.content) == [(start, data[start:stop]) for start, stop in spans]
    assert "sandbox" in answer.headers["content-security-policy"]
    head = ask(text, "HEAD")
    assert (head.status_code, head.headers["content-length"]) == (206, answer.headers["content-length"])
    hundred = ",".join(f"{n}-{n}" for n in range(0, 200, 2))
    assert ask(hundred).status_code == 206
    for refused in (
        "0-9,5-20",
        "20-30,0-9",
        "0-9,20-10",
        f"0-9,{size}-{size + 9}",
        f"{hundred},900-901",
        "0-1,5-",
        "0-1,,",
    ):
        whole = ask(refused)
        assert (whole.status_code, whole.content == data) == (200, True), refused
    assert ask(text, **{"If-Range": '"other"'}).status_code == 200
    assert ask(text, **{"If-Range": answer.headers["etag"]}).status_code == 206


def test_revisions_are_immutable_and_readable(api, repo, tmp_path):
    first = put(api, repo, "a.txt", b"one").oid
    put(api, repo, "a.txt", b"two")
    api.create_tag(repo, tag="v1", revision=first, repo_type=DATA)
    api.create_branch(repo, branch="refs-like/x", revision=first, repo_type=DATA)
    put(api, repo, "b.txt", b"side", revision="refs-like/x")
    assert get(api, repo, "a.txt", tmp_path) == b"two"
    for revision in (first, "v1", "refs-like/x"):
        assert get(api, repo, "a.txt", tmp_path, revision=revision) == b"one"
    assert [c.title for c in api.list_repo_commits(repo, repo_type=DATA)][-1] == "initial commit"
    refs = api.list_repo_refs(repo, repo_type=DATA)
    assert {b.name for b in refs.branches} == {"main", "refs-like/x"}
    api.delete_tag(repo, tag="v1", repo_type=DATA)
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info(repo, revision="v1")


def test_deletions_and_folders(api, repo):
    operations = [CommitOperationAdd(f"f/{n}.txt", f"{n}".encode()) for n in range(3)]
    api.create_commit(repo, operations, commit_message="three", repo_type=DATA)
    api.create_commit(repo, [CommitOperationDelete("f/0.txt")], commit_message="less", repo_type=DATA)
    assert [f.path for f in api.list_repo_tree(repo, "f", repo_type=DATA)] == ["f/1.txt", "f/2.txt"]
    api.delete_folder("f", repo, repo_type=DATA)
    assert api.list_repo_files(repo, repo_type=DATA) == []
    infos = api.get_paths_info(repo, ["f", "nothing"], repo_type=DATA)
    assert infos == []


def test_a_parent_that_moved_is_a_conflict(api, repo):
    old = api.dataset_info(repo).sha
    put(api, repo, "a.txt", b"one")
    with pytest.raises(HfHubHTTPError, match="412"):
        put(api, repo, "b.txt", b"two", parent_commit=old)
    assert api.list_repo_files(repo, repo_type=DATA) == ["a.txt"]


def test_missing_things_raise_what_the_client_knows(api, repo, tmp_path):
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info("ada/nothing-there")
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info(repo, revision="nowhere")
    with pytest.raises(RemoteEntryNotFoundError):
        get(api, repo, "nothing.txt", tmp_path)
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(repo, "nothing", repo_type=DATA))
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(repo, repo_type=DATA)
    api.create_repo(repo, repo_type=DATA, exist_ok=True)
    with pytest.raises(HfHubHTTPError, match="not hosted here"):
        api.create_repo("ada/app", repo_type="space", space_sdk="static")


def test_a_private_repository_is_missing_for_everybody_else(hub, api, repo):
    put(api, repo, "secret.txt", b"x")
    api.update_repo_settings(repo, private=True, repo_type=DATA)
    for token in (hub.token("eve"), False):
        eve = HfApi(endpoint=hub.url, token=token)
        for asked in (repo, "ada/not-there"):
            with pytest.raises(RepositoryNotFoundError):
                eve.dataset_info(asked)
            with pytest.raises(RepositoryNotFoundError):
                eve.hf_hub_download(asked, "secret.txt", repo_type=DATA)
            with pytest.raises(RepositoryNotFoundError):
                eve.list_repo_refs(asked, repo_type=DATA)
            with pytest.raises(HfHubHTTPError):
                put(eve, asked, "evil.txt", b"x")
        assert repo not in [d.id for d in eve.list_datasets()]
    assert repo in [d.id for d in api.list_datasets()]


def test_reading_tokens_and_strangers_do_not_write(hub, api, repo):
    with pytest.raises(HfHubHTTPError, match="403"):
        put(HfApi(endpoint=hub.url, token=hub.token("ada", role="read")), repo, "a.txt", b"x")
    with pytest.raises(HfHubHTTPError, match="401"):
        put(HfApi(endpoint=hub.url, token=False), repo, "a.txt", b"x")
    with pytest.raises(HfHubHTTPError, match="403"):
        put(HfApi(endpoint=hub.url, token=hub.token("eve")), repo, "a.txt", b"x")
    scoped = HfApi(endpoint=hub.url, token=hub.token("ada", only_repo=f"dataset/{repo}"))
    put(scoped, repo, "a.txt", b"x")
    with pytest.raises(HfHubHTTPError, match="403"):
        scoped.create_repo("ada/another", repo_type=DATA)


def test_moving_leaves_a_way(hub, api, repo, tmp_path):
    put(api, repo, "a.txt", b"one")
    api.move_repo(repo, "ada/moved-there", repo_type=DATA)
    assert get(api, repo, "a.txt", tmp_path) == b"one"
    assert get(api, "ada/moved-there", "a.txt", tmp_path) == b"one"
    api.delete_repo("ada/moved-there", repo_type=DATA)
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info("ada/moved-there")


def test_names_keep_their_case_and_are_found_in_any(api):
    api.create_repo("ada/CamelCase", repo_type=DATA)
    assert api.dataset_info("ADA/camelcase").id == "ada/CamelCase"
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("ada/camelCASE", repo_type=DATA)


def test_listing_filters_sorts_and_pages(hub):
    api = HfApi(endpoint=hub.url, token=hub.token("lister"))
    for number in range(5):
        api.create_repo(f"lister/set-{number}", repo_type=DATA)
    put(api, "lister/set-3", "README.md", b"---\ntags: ['dataset:ada/x', commentary]\n---\n")
    assert [d.id for d in api.list_datasets(filter=["commentary", "dataset:ada/x"])] == ["lister/set-3"]
    assert len(list(api.list_datasets(author="lister"))) == 5
    assert [d.id for d in api.list_datasets(search="set-4")] == ["lister/set-4"]
    assert next(iter(api.list_datasets(author="lister", sort="last_modified", limit=2))).id == "lister/set-3"
    page = api.list_datasets(author="lister", limit=3)
    assert len(list(page)) == 3


def test_models_and_squashing(api):
    api.create_repo("ada/net")
    for text in (b"1", b"2"):
        api.upload_file(path_or_fileobj=text, path_in_repo="a.txt", repo_id="ada/net")
    api.super_squash_history("ada/net")
    assert len(api.list_repo_commits("ada/net")) == 1
    assert api.list_repo_files("ada/net") == ["a.txt"]


def test_the_file_system(hub, api, repo):
    files = HfFileSystem(endpoint=hub.url, token=api.token, skip_instance_cache=True)
    with files.open(f"datasets/{repo}/a/b.txt", "w") as file:
        file.write("hello")
    assert files.ls(f"datasets/{repo}/a", detail=False) == [f"datasets/{repo}/a/b.txt"]
    with files.open(f"datasets/{repo}/a/b.txt", "rb") as file:
        file.seek(1)
        assert file.read(3) == b"ell"


@pytest.mark.parametrize(
    "path",
    ["../x", "/x", "a/../../x", "a\\b", "a/./b", ".git/config", "a/.GIT/x", "a\x00b", "C:/x", "a//b", "x.", "e\u0301"],
)
def test_hostile_paths_are_refused(hub, api, repo, path):
    from huggingface_hub import get_session

    body = '{"key":"header","value":{"summary":"x","description":""}}\n'
    import json

    body += json.dumps({"key": "file", "value": {"path": path, "content": "eA==", "encoding": "base64"}})
    reply = get_session().post(
        f"{hub.url}/api/datasets/{repo}/commit/main", content=body, headers={"Authorization": f"Bearer {api.token}"}
    )
    assert reply.status_code == 400, reply.text
    assert api.list_repo_files(repo, repo_type=DATA) == []


def test_nobody_claims_by_hash_what_another_uploaded(hub, api, repo):
    import hashlib
    import json

    from huggingface_hub import get_session

    secret = os.urandom(2_000_000)
    api.create_repo("ada/private-source", repo_type=DATA, private=True)
    put(api, "ada/private-source", "s.bin", secret)
    eve = HfApi(endpoint=hub.url, token=hub.token("eve"))
    eve.create_repo("eve/thief", repo_type=DATA)
    line = {
        "key": "lfsFile",
        "value": {"path": "s.bin", "algo": "sha256", "oid": hashlib.sha256(secret).hexdigest(), "size": len(secret)},
    }
    body = json.dumps({"key": "header", "value": {"summary": "x"}}) + "\n" + json.dumps(line)
    reply = get_session().post(
        f"{hub.url}/api/datasets/eve/thief/commit/main", content=body, headers={"Authorization": f"Bearer {eve.token}"}
    )
    assert reply.status_code == 404
    assert eve.list_repo_files("eve/thief", repo_type=DATA) == []
