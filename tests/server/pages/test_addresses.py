"""Addresses that clients print, and those that people know from elsewhere, open in a browser."""

import re

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from commentary_hub_server.rules.repositories import Change, RepositoryShelf
from tests.server.hub.running import running

HTML = {"Accept": "text/html"}
FILES = {"a.txt": b"one\n", "copies/b c.txt": b"two\n", "copies/deep/d.txt": b"three\n"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with running(tmp_path_factory.mktemp("hub")) as one:
        one.api = HfApi(endpoint=one.url, token=one.token("ada"))
        one.printed = []
        for kind in ("dataset", "model"):
            made = one.api.create_repo("ada/r1", repo_type=kind)
            operations = [CommitOperationAdd(path, data) for path, data in FILES.items()]
            commit = one.api.create_commit("ada/r1", operations, commit_message="x", repo_type=kind)
            repository = one.world.repositories.get(kind, "ada/r1")
            one.world.history.create_ref(repository, "dev/x", "main", tag=False)
            one.world.history.commit(repository, "dev/x", [Change("e.txt", data=b"e")], title="e", author="ada")
            one.printed += [str(made), str(commit.commit_url)]
        yield one


def opened(hub, path):
    return httpx2.get(f"{hub.url}{path}", headers=HTML, follow_redirects=True)


def test_what_clients_print_opens(hub):
    assert [address.removeprefix(hub.url).rpartition("/")[0] for address in hub.printed] == [
        "/datasets/ada", "/datasets/ada/r1/commit", "/ada", "/ada/r1/commit",
    ]  # fmt: skip
    pages = [opened(hub, address.removeprefix(hub.url)) for address in hub.printed]
    assert [page.status_code for page in pages] == [200] * 4
    assert "3 files changed" in pages[1].text
    assert "The files of a model" in pages[2].text
    assert "copies/b c.txt" in pages[3].text


@pytest.mark.parametrize("base", ["/datasets/ada/r1", "/ada/r1"])
def test_a_folder_and_a_branch_with_a_slash_are_listed(hub, base):
    for end, said in (
        ("tree/main", "3 files, "), ("tree/main/", "3 files, "), ("tree/main/copies", "2 files, "),
        ("tree/main/copies/", "in copies<"), ("tree/main/copies%2Fdeep", "in copies/deep<"),
        ("tree/dev%2Fx", "4 files, "), ("tree/dev/x", "4 files, "), ("tree/dev%2Fx/copies", "2 files, "),
        ("tree/dev/x/copies", "in copies<"), ("tree/dev/x/copies/deep/", "in copies/deep<"),
        ("tree/refs/heads/dev/x/copies", "2 files, "),
        ("tree/refs%2Fheads%2Fmain", "3 files, "),
    ):  # fmt: skip
        assert said in opened(hub, f"{base}/{end}").text, end
    for end in (
        "tree/none",
        "tree/main/cop",
        "tree/dev/x/cop",
        "tree/dev/none/copies",
        "commit/none",
        "raw/none/a.txt",
        "blob/none/a.txt",
    ):
        assert opened(hub, f"{base}/{end}").status_code == 404, end


def test_a_folder_asked_for_as_a_file_and_a_file_asked_for_as_a_folder_open(hub):
    for end in ("blob/main/copies", "blob/main/copies/", "blob/dev%2Fx/copies"):
        page = opened(hub, f"/datasets/ada/r1/{end}")
        assert re.fullmatch("/datasets/ada/r1/tree/[0-9a-f]{40}/copies", page.url.path), end
        assert "in copies<" in page.text
    for end in ("tree/main/copies/b%20c.txt", "tree/dev/x/copies/b%20c.txt", "tree/main/copies/b%20c.txt/"):
        page = opened(hub, f"/datasets/ada/r1/{end}")
        assert re.fullmatch("/datasets/ada/r1/blob/[0-9a-f]{40}/copies/b c.txt", page.url.path), end
        assert page.status_code == 200
        assert opened(hub, f"/ada/r1/{end}").content == b"two\n"
    assert opened(hub, "/datasets/ada/r1/blob/main/cop").status_code == 404


@pytest.mark.parametrize("base", ["/datasets/ada/r1", "/ada/r1"])
def test_of_an_address_few_beginnings_are_looked_up_as_a_branch(hub, base, monkeypatch):
    looked, resolve = [], RepositoryShelf.resolve
    monkeypatch.setattr(RepositoryShelf, "resolve", lambda self, *what: looked.append(what[1]) or resolve(self, *what))
    assert opened(hub, f"{base}/tree/{'x/' * 500}").status_code == 404
    assert looked == ["/".join("x" * count) for count in range(1, 7)]


def test_raw_files_and_files_of_branches_with_a_slash_are_there(hub):
    for base in ("/datasets/ada/r1", "/ada/r1"):
        assert opened(hub, f"{base}/raw/main/a.txt").content == b"one\n"
        assert opened(hub, f"{base}/raw/dev%2Fx/copies/b%20c.txt").content == b"two\n"
    assert opened(hub, "/ada/r1/blob/main/copies/b%20c.txt").content == b"two\n"
    for end in ("blob/dev%2Fx/a.txt", "blob/main/copies%2Fdeep%2Fd.txt", "commits/dev%2Fx", "commit/dev%2Fx",
                "difference?before=main&after=dev/x"):  # fmt: skip
        assert opened(hub, f"/datasets/ada/r1/{end}").status_code == 200, end


def test_of_the_first_commit_the_files_are_shown(hub):
    first = hub.api.list_repo_commits("ada/r1", repo_type="dataset")[-1].commit_id
    page = opened(hub, f"/datasets/ada/r1/commit/{first}")
    assert page.url.path == f"/datasets/ada/r1/tree/{first}"
    assert page.status_code == 200


def test_where_no_model_is_programs_are_told_so_and_people_see_a_page(hub):
    for path in ("/ada/nothing", "/ada/nothing/tree/main", "/api/nothing", "/datasets/nothing"):
        told = httpx2.get(f"{hub.url}{path}")
        assert (told.status_code, told.json()) == (404, {"error": "Not Found"}), path
    assert "There is no such page" in opened(hub, "/ada/nothing").text
    assert opened(hub, "/api/nothing").headers["content-type"] == "application/json"
