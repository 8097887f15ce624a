"""The protocol's corners, by what clients send and read: ids, pages, errors, headers."""

import json
import os
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from commentary_hub_server.routes.hub import _accounts
from tests.server.hub.asking import DATA, commit, http


def test_ids_of_one_segment_are_the_administrators(hub, api, tmp_path):
    if hub.world.directory.owner("_") is None:
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


def test_thousands_of_paths_are_looked_up_at_once(api, repo):
    commit(api, repo, {"a.txt": b"1", "d/b.txt": b"1"})
    names = [f"nothing/{n}" for n in range(5_000)]
    found = api.get_paths_info(repo, [*names, "a.txt", "d"], repo_type=DATA)
    assert [one.path for one in found] == ["a.txt", "d"]
    address = f"/api/datasets/{repo}/paths-info/main"
    assert http(api, "POST", address, data={"paths": ["a"] * 20_000}).json() == []
    for count in (20_001, 30_000):
        reply = http(api, "POST", address, data={"paths": ["a"] * count})
        assert (reply.status_code, "20,000 paths" in reply.json()["error"]) == (400, True)
    assert http(api, "POST", address).json() == []


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


def test_a_card_keeps_its_metadata_beside_what_json_does_not_know(api, repo):
    card = b"---\nlicense: mit\nreleased: 2024-01-01\nscores: {2024-01-01: .nan, 2: 1}\nseen: !!set {a}\n---\n"
    commit(api, repo, {"README.md": card})
    info = api.dataset_info(repo)
    assert info.tags == ["license:mit"]
    assert info.card_data.to_dict() == {
        "license": "mit", "released": "2024-01-01", "scores": {"2024-01-01": None, "2": 1}, "seen": "{'a'}",
    }  # fmt: skip


def test_a_long_card_keeps_tags_and_what_is_short_of_its_metadata(api, repo):
    described = [{"config_name": f"c{n}", "features": [{"name": f"f{m}"} for m in range(40)]} for n in range(200)]
    card = f"---\nlicense: mit\ndataset_info: {json.dumps(described)}\n---\n# Hello\n".encode()
    assert len(card) > 100_000
    commit(api, repo, {"README.md": card})
    info = api.dataset_info(repo)
    assert info.tags == ["license:mit"]
    assert info.card_data.to_dict() == {"license": "mit"}
    assert "dataset_info" not in http(api, "GET", f"/datasets/{repo}").text


def test_a_card_whose_yaml_names_no_such_value_is_committed_without_metadata(api, repo):
    # huggingface_hub asks first, and is told; other clients commit.
    for block in ("a: !!timestamp x", "a: !!bool x", f"a: !!float '1{':1' * 300}.5'"):
        row = {"key": "file", "value": {"path": "README.md", "content": f"---\n{block}\n---\n", "encoding": "utf-8"}}
        body = json.dumps({"key": "header", "value": {"summary": "x"}}) + "\n" + json.dumps(row)
        assert http(api, "POST", f"/api/datasets/{repo}/commit/main", content=body).status_code == 200
        checked = http(api, "POST", "/api/validate-yaml", json={"content": row["value"]["content"]})
        assert checked.status_code == 400


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


def test_owners_list_what_they_own_with_its_size(hub, monkeypatch):
    keeper = HfApi(endpoint=hub.url, token=hub.token("keeper"))
    hub.world.directory.add_org("shelf-lab", member="keeper")
    for n in range(3):
        keeper.create_repo(f"keeper/set-{n}", repo_type=DATA, private=n == 1)
    keeper.create_repo("keeper/net")
    keeper.create_repo("shelf-lab/set", repo_type=DATA)
    commit(keeper, "keeper/set-0", {"a.txt": b"x" * 300})
    commit(keeper, "keeper/set-1", {"a.txt": b"y" * 100})
    for most in (1000, 2):
        monkeypatch.setattr(_accounts, "MAX_LISTED", most)
        found = {one.id: one for one in keeper.list_user_repos()}
        assert {(one.id, one.type, one.visibility, one.storage, one.storage_percent) for one in found.values()} == {
            ("keeper/set-0", "dataset", "public", 300, 75.0), ("keeper/set-1", "dataset", "private", 100, 25.0),
            ("keeper/set-2", "dataset", "public", 0, 0), ("keeper/net", "model", "public", 0, 0),
        }  # fmt: skip
    assert [one.id for one in keeper.list_user_repos("shelf-lab")] == ["shelf-lab/set"]
    for settings in ({"user": "eve"}, {"user": "keeper", "only_repo": "dataset/shelf-lab/set"}):
        with pytest.raises(HfHubHTTPError, match="403"):
            list(HfApi(endpoint=hub.url, token=hub.token(**settings)).list_user_repos("shelf-lab"))
    with pytest.raises(HfHubHTTPError, match="401"):
        list(HfApi(endpoint=hub.url, token=False).list_user_repos())


def test_the_old_name_leads_to_the_new_one_until_it_is_taken(api, repo):
    api.move_repo(repo, "ada/new-name", repo_type=DATA)
    reply = http(api, "GET", f"/api/datasets/{repo}/revision/main?blobs=true")
    assert reply.status_code == 307
    assert reply.headers["location"] == f"{api.endpoint}/api/datasets/ada/new-name/revision/main?blobs=true"
    api.create_repo(repo, repo_type=DATA)
    assert api.dataset_info(repo).id == repo


def test_a_file_is_found_by_the_old_name_without_a_host_in_the_way(api, repo):
    """As clients from 0.36 to 1.3 want it: asking for a file's headers, they follow no redirect to a host."""
    commit(api, repo, {"a b.txt": b"1"})
    api.move_repo(repo, f"{repo}-moved", repo_type=DATA)
    for method in ("HEAD", "GET"):
        reply = http(api, method, f"/datasets/{repo}/resolve/main/a%20b.txt")
        assert reply.status_code == 307
        assert reply.headers["location"] == f"/datasets/{repo}-moved/resolve/main/a%20b.txt"


def test_what_a_gitignore_names_stays_at_home(api, repo):
    """The one given, or in the commit, or on the hub, in this order."""
    files = {".env": b"KEY=1", "a.log": b"1", "kept.log": b"1", "build/x": b"1", "a/build.txt": b"1"}
    everything = {*files, ".gitignore"}
    commit(api, repo, {".gitignore": b"# mine\n.env\n*.log\n!kept.log\nbuild/\n", **files})
    visible = {".gitignore", "kept.log", "a/build.txt"}
    assert set(api.list_repo_files(repo, repo_type=DATA)) == visible
    commit(api, repo, {"b.log": b"1", "build/y": b"1", "c.txt": b"1"})
    assert set(api.list_repo_files(repo, repo_type=DATA)) == visible | {"c.txt"}
    asked = {"files": [{"path": path, "size": 1, "sample": ""} for path in sorted(everything)], "gitIgnore": ""}
    for given, expected in (("", set()), ("*.txt\n", {"a/build.txt"}), ("\ufeff*.txt\n", {"a/build.txt"})):
        reply = http(api, "POST", f"/api/datasets/{repo}/preupload/main", json=asked | {"gitIgnore": given}).json()
        assert {one["path"] for one in reply["files"] if one["shouldIgnore"]} == expected
    for unread in ("[[:upper:]]*", "*.txt\n[^a[:digit:]]x\n"):
        reply = http(api, "POST", f"/api/datasets/{repo}/preupload/main", json=asked | {"gitIgnore": unread})
        assert reply.status_code == 400
        assert "write the characters out, as in [A-Z]" in reply.text


def test_only_branches_take_commits(api, repo):
    first = commit(api, repo, {"a.txt": b"1"}).oid
    api.create_tag(repo, tag="v1", revision=first, repo_type=DATA)
    with pytest.raises(BadRequestError, match="not a branch"):
        commit(api, repo, {"a.txt": b"2"}, revision="refs/tags/v1")
    with pytest.raises(RevisionNotFoundError):
        commit(api, repo, {"a.txt": b"2"}, revision="refs/pr/1")
    with pytest.raises(HfHubHTTPError, match="404"):
        commit(api, repo, {"a.txt": b"2"}, revision="v1")
    assert api.dataset_info(repo, revision="v1").sha == first
    assert commit(api, repo, {"a.txt": b"2"}, revision="refs/heads/main").oid == api.dataset_info(repo).sha != first


def test_a_former_name_deletes_nothing(hub, api, repo):
    kept = f"{repo}-backup"
    api.move_repo(repo, kept, repo_type=DATA)
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(repo, repo_type=DATA)
    api.delete_repo(repo, repo_type=DATA, missing_ok=True)
    assert api.dataset_info(kept).id == kept
    # Without an owner, the one of the administrators is meant where one's own has another name by now.
    if hub.world.directory.owner("_") is None:
        hub.world.directory.add_org("_")
    name = repo.split("/")[1]
    hub.world.repositories.create(DATA, "_", name, private=False)
    assert http(api, "DELETE", "/api/repos/delete", json={"name": name, "type": DATA}).status_code == 403
    assert api.dataset_info(kept).id == kept
    api.delete_repo(kept.upper(), repo_type=DATA)
    assert not api.repo_exists(kept, repo_type=DATA)
