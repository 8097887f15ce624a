"""The protocol's corners, by what clients send and read: ids, pages, errors, LFS, headers."""

import hashlib
import json
import os
import time
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, HfApi
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from commentary_hub.errors import HubConflict
from commentary_hub_server.rules.xet import chunk_hash, to_text, xorb_hash
from tests.server.hub.running import running
from tests.server.xet.test_hostile import chunk

DATA = "dataset"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with running(tmp_path_factory.mktemp("hub")) as one:
        yield one


@pytest.fixture(scope="module")
def api(hub):
    return HfApi(endpoint=hub.url, token=hub.token("ada"))


@pytest.fixture
def repo(api, request):
    name = f"ada/{request.node.originalname.replace('_', '-')[:60]}"
    api.create_repo(name, repo_type=DATA, exist_ok=True)
    return name


def http(api, method, path, **settings):
    headers = {"Authorization": f"Bearer {api.token}"} if api.token else {}
    headers |= settings.pop("headers", {})
    return httpx2.request(method, f"{api.endpoint}{path}", headers=headers, timeout=30, **settings)


def commit(api, repo, files, **settings):
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    return api.create_commit(repo, operations, commit_message="x", repo_type=DATA, **settings)


def test_ids_of_one_segment_are_the_administrators(hub, api, tmp_path):
    hub.world.directory.add_org("_")
    admin = HfApi(endpoint=hub.url, token=_admin(hub))
    with pytest.raises(HfHubHTTPError, match="403"):
        api.create_repo("_/digits", repo_type=DATA)
    made = admin.create_repo("_/digits", repo_type=DATA)
    assert made.repo_id == "_/digits"
    admin.upload_file(path_or_fileobj=b"a", path_in_repo="a.txt", repo_id="digits", repo_type=DATA)
    admin.upload_file(path_or_fileobj=os.urandom(2_000_000), path_in_repo="b.bin", repo_id="digits", repo_type=DATA)
    for spelling in ("digits", "Digits", "_/digits"):
        info = api.dataset_info(spelling)
        assert info.id == "digits"
        assert info.author is None
    assert api.list_repo_files("digits", repo_type=DATA) == ["a.txt", "b.bin"]
    assert [one.name for one in api.list_repo_refs("digits", repo_type=DATA).branches] == ["main"]
    path = api.hf_hub_download("digits", "b.bin", repo_type=DATA, cache_dir=tmp_path)
    assert Path(path).stat().st_size == 2_000_000
    assert "digits" in [one.id for one in api.list_datasets(search="digits")]
    with pytest.raises(HfHubHTTPError, match="403"):
        api.upload_file(path_or_fileobj=b"a", path_in_repo="x.txt", repo_id="digits", repo_type=DATA)
    assert http(api, "DELETE", "/api/repos/delete", json={"name": "digits", "type": DATA}).status_code == 403
    admin.move_repo("_/digits", "_/numbers", repo_type=DATA)
    assert api.dataset_info("digits").id == "numbers"
    admin.delete_repo("numbers", repo_type=DATA)
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info("numbers")


def _admin(hub):
    if hub.world.directory.owner("root") is None:
        hub.world.directory.add_user("root", is_admin=True)
    return hub.world.directory.create_token("root")


def test_trees_are_paged_and_every_file_comes_once(api, repo):
    names = {f"d{n % 3}/f{n}.txt" for n in range(40)} | {"d1.txt", "d1-x", "z"}
    commit(api, repo, {name: name.encode() for name in names})
    api.create_branch(repo, branch="refs-like/side", repo_type=DATA)
    for revision in ("main", "refs%2Fheads%2Frefs-like%2Fside", "refs-like%2Fside"):
        url, found = f"/api/datasets/{repo}/tree/{revision}?recursive=true&limit=7", []
        while url:
            reply = http(api, "GET", url)
            assert reply.status_code == 200
            found += [one["path"] for one in reply.json() if one["type"] == "file"]
            link = reply.links.get("next", {}).get("url")
            url = link.removeprefix(api.endpoint) if link else None
        assert len(found) == len(set(found))
        assert set(found) == names
    assert {one.path for one in api.list_repo_tree(repo, "d1", repo_type=DATA)} == {
        f"d1/f{n}.txt" for n in range(1, 40, 3)
    }


def test_expand_names_the_commit_that_last_changed_a_path(api, repo):
    first = commit(api, repo, {"a.txt": b"1", "d/b.txt": b"1"}).oid
    second = commit(api, repo, {"d/b.txt": b"2"}).oid
    tree = {one.path: one for one in api.list_repo_tree(repo, repo_type=DATA, expand=True, recursive=True)}
    assert {path: one.last_commit.oid for path, one in tree.items()} == {"a.txt": first, "d": second, "d/b.txt": second}
    info = api.get_paths_info(repo, ["a.txt"], expand=True, repo_type=DATA)[0]
    assert info.last_commit.oid == first


def test_history_is_paged(api, repo):
    ids = [commit(api, repo, {"a.txt": b"%d" % n}).oid for n in range(5)]
    url, found = f"/api/datasets/{repo}/commits/main?limit=2", []
    while url:
        reply = http(api, "GET", url)
        found += [one["id"] for one in reply.json()]
        link = reply.links.get("next", {}).get("url")
        url = link.removeprefix(api.endpoint) if link else None
    assert found[:-1] == ids[::-1]


def test_info_gives_what_expand_asks_for(api, repo):
    commit(api, repo, {"README.md": b"---\nlicense: mit\ntask_categories: [text-classification]\n---\n"})
    info = api.dataset_info(repo, expand=["tags", "sha", "cardData"])
    assert info.tags == ["license:mit", "task_categories:text-classification"]
    assert info.card_data["license"] == "mit"
    assert info.siblings is None
    assert info.sha == api.list_repo_commits(repo, repo_type=DATA)[0].commit_id
    (listed,) = api.list_datasets(search=repo.split("/")[1], expand=["sha", "cardData", "usedStorage"])
    assert (listed.sha, listed.card_data["license"]) == (info.sha, "mit")
    (full,) = api.list_datasets(search=repo.split("/")[1], full=True)
    assert (full.sha, full.author) == (info.sha, "ada")
    assert [one.id for one in api.list_datasets(task_categories="text-classification")] == [repo]


def test_errors_say_what_the_client_looks_for(api, repo, tmp_path):
    with pytest.raises(RemoteEntryNotFoundError, match="A file with this name doesn't exist"):
        api.delete_file("nothing.txt", repo, repo_type=DATA)
    with pytest.raises(RevisionNotFoundError):
        api.upload_file(path_or_fileobj=b"x", path_in_repo="a", repo_id=repo, repo_type=DATA, revision="nowhere")
    with pytest.raises(RepositoryNotFoundError, match="Note: Creating a commit assumes that the repo already exists"):
        commit(api, "ada/not-there", {"a": b"x"})
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_branch(repo, branch="main", repo_type=DATA)
    api.create_branch(repo, branch="main", repo_type=DATA, exist_ok=True)
    with pytest.raises(BadRequestError, match="not hosted here"):
        api.update_repo_settings(repo, gated="auto", repo_type=DATA)
    with pytest.raises(HfHubHTTPError, match="sort is one of"):
        list(api.list_datasets(sort="beauty"))
    with pytest.raises(BadRequestError, match="not hosted"):
        api.create_commit(repo, [CommitOperationAdd("a", b"x")], commit_message="x", repo_type=DATA, create_pr=True)
    bad = b"---\nlicense: [mit\n---\n"
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        api.upload_file(path_or_fileobj=bad, path_in_repo="README.md", repo_id=repo, repo_type=DATA)
    missing = http(api, "GET", f"/datasets/{repo}/resolve/main/nothing")
    assert missing.headers["x-error-code"] == "EntryNotFound"
    assert len(missing.headers["x-repo-commit"]) == 40
    api.auth_check(repo, repo_type=DATA)
    with pytest.raises(RepositoryNotFoundError):
        api.auth_check("ada/not-there", repo_type=DATA)


def test_every_reply_has_an_id_and_refusals_are_json(api):
    for path in (
        "/api/whoami-v2",
        "/api/datasets/ada/none",
        "/api/datasets?limit=0",
        "/nothing/here/at/all",
        "/healthz",
    ):
        reply = http(api, "GET", path, headers={"x-request-id": "mine-1"})
        assert reply.headers["x-request-id"] == "mine-1"
        if reply.status_code >= 400 and path.startswith("/api"):
            assert reply.json()["error"]
    assert http(api, "GET", "/healthz", headers={"x-request-id": "no spaces, please"}).headers["x-request-id"].isalnum()
    assert http(api, "GET", "/api/agent-harnesses").status_code == 404


def test_a_failure_inside_is_a_500_with_an_id(hub, api, monkeypatch):
    monkeypatch.setattr(hub.world.repositories, "heads", None)
    reply = http(api, "GET", "/api/datasets?full=true")
    assert reply.status_code == 500
    assert reply.headers["x-request-id"]
    assert "Traceback" not in reply.text


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
    number = hub.world.repositories.get(DATA, repo).id
    sign, later, oid = hub.world.signer.sign, int(time.time()) + 60, "a" * 64
    for token in (
        sign("lfs-put", number, oid, 5, int(time.time()) - 1),
        sign("lfs-get", number, oid, 5, 0, later),
        sign("lfs-put", number, oid, 5, later)[:-4] + "AAAA",
        "nonsense",
    ):
        assert httpx2.put(f"{hub.url}/lfs/put/{token}", content=b"hello").status_code == 403
    assert httpx2.put(f"{hub.url}/lfs/put/{sign('lfs-put', 10**9, oid, 5, later)}", content=b"hello").status_code == 404
    assert (
        httpx2.put(f"{hub.url}/lfs/put/{sign('lfs-put', number, oid, 5, later)}", content=b"hello").status_code == 400
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


def test_users_organisations_and_their_roles(hub, api):
    hub.world.directory.add_org("lab", full_name="The Lab", member="ada", role="read")
    hub.token("bob")
    hub.world.directory.add_member("lab", "bob", role="write")
    assert api.get_user_overview("ada").username == "ada"
    assert api.get_organization_overview("lab").fullname == "The Lab"
    assert {one.username for one in api.list_organization_members("lab")} == {"ada", "bob"}
    with pytest.raises(HfHubHTTPError, match="403"):
        api.create_repo("lab/set", repo_type=DATA)
    bob = HfApi(endpoint=hub.url, token=hub.token("bob"))
    bob.create_repo("lab/set", repo_type=DATA, private=True)
    assert api.dataset_info("lab/set").private
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=hub.url, token=hub.token("eve")).dataset_info("lab/set")
    with pytest.raises(HfHubHTTPError, match="404"):
        api.get_user_overview("nobody-here")


def test_the_old_name_leads_to_the_new_one_until_it_is_taken(api, repo):
    api.move_repo(repo, "ada/new-name", repo_type=DATA)
    reply = http(api, "GET", f"/api/datasets/{repo}/revision/main?blobs=true")
    assert reply.status_code == 307
    assert reply.headers["location"] == f"{api.endpoint}/api/datasets/ada/new-name/revision/main?blobs=true"
    api.create_repo(repo, repo_type=DATA)
    assert api.dataset_info(repo).id == repo


def test_limits_are_told_and_kept(tmp_path):
    with running(tmp_path, rate_limit=20) as hub:
        api = HfApi(endpoint=hub.url, token=hub.token("ada"))
        first = http(api, "GET", "/api/whoami-v2")
        assert first.headers["ratelimit"].startswith('"requests";r=19;t=')
        assert first.headers["ratelimit-policy"] == '"requests";q=20;w=60'
        for _ in range(19):
            http(api, "GET", "/api/whoami-v2")
        refused = http(api, "GET", "/api/whoami-v2")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        # Inventing tokens helps nobody.
        codes = [
            http(HfApi(endpoint=hub.url, token=f"hf_invented_{n}"), "GET", "/api/whoami-v2").status_code
            for n in range(25)
        ]
        assert codes[0] == 401
        assert codes[-1] == 429


def test_an_invented_header_counts_for_its_address_and_a_user_once(tmp_path):
    with running(tmp_path, rate_limit=20) as hub:
        for n in range(20):
            assert httpx2.get(f"{hub.url}/healthz", headers={"Authorization": f"Bearer x{n}"}).status_code == 200
        assert httpx2.get(f"{hub.url}/healthz", headers={"Authorization": "Bearer x"}).status_code == 429
    with running(tmp_path, rate_limit=20) as hub:
        apis = [HfApi(endpoint=hub.url, token=hub.token("ada")) for _ in range(2)]
        for one in apis:
            http(one, "GET", "/api/whoami-v2")
        left = [http(one, "GET", "/api/whoami-v2").headers["ratelimit"].partition("r=")[2][:2] for one in apis]
        assert left == ["17", "16"]
        for _ in range(30):  # what strangers at the same address do does not touch a user
            httpx2.get(f"{hub.url}/healthz")
        assert http(apis[0], "GET", "/api/whoami-v2").status_code == 200


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
        parts = [hub.world.signer.sign("lfs-part", number, one["oid"], 60_000, 1, later) for one in objects]
        sent = [httpx2.put(f"{hub.url}/lfs/part/{part}", content=one) for part, one in zip(parts, data, strict=True)]
        assert [one.status_code for one in sent] == [200, 403]
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
