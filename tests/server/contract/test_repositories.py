"""Repositories: commits, refs, listing, names. The same on every database and object store."""

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from commentary_hub.errors import HubConflict, HubNotFound, InputError
from commentary_hub_server.rules.catalogue import Query, Viewer
from commentary_hub_server.rules.repositories import (
    Change,
    Filters,
    _history,
    _listing,
    _revisions,
    _trees,
)
from commentary_hub_server.rules.repositories.tables import trees
from commentary_hub_server.upkeep import check
from tests.server.catalogue.artefacts import artefact
from tests.server.contract.steps import commit, contents, on_s3_too, upload

pytestmark = pytest.mark.xdist_group("storage")


@on_s3_too
def test_what_was_committed_is_read_at_its_revision_for_ever(world, repo):
    large = os.urandom(300_000)
    first = commit(world, repo, {"a.txt": b"one", "f/b.txt": b"b" * 100_000, "empty": b""})
    changes = [Change("a.txt", data=b"two"), Change("w.bin", sha256=upload(world, repo, large))]
    second = world.history.commit(repo, "main", changes, title="t", author="ada", parent=first.id)
    assert len(second.id) == 40
    assert set(second.id) <= set("0123456789abcdef")
    assert contents(world, repo, first.id) == {"a.txt": b"one", "f/b.txt": b"b" * 100_000, "empty": b""}
    assert contents(world, repo) == contents(world, repo, first.id) | {"a.txt": b"two", "w.bin": large}
    opened = world.history.open(repo, second, "w.bin")
    assert world.history.read(repo, opened, 1000, 5) == large[1000:1005]
    assert [c.id for c in world.history.log(repo, second, 10)][:2] == [second.id, first.id]
    assert [c.id for c in world.history.log(repo, second, 1, skip=1)] == [first.id]
    assert check(world).problems == []


def test_a_commit_stores_only_the_folders_it_changes(world, repo):
    commit(world, repo, {f"d{n}/f{m}.txt": b"%d %d" % (n, m) for n in range(20) for m in range(5)})
    with world.engine.connect() as connection:
        before = connection.execute(select(func.count()).select_from(trees)).scalar_one()
    commit(world, repo, {"d3/f1.txt": b"changed"})
    with world.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(trees)).scalar_one() == before + 2


def test_a_shelf_reads_no_more_folders_than_it_is_asked_about(world, repo, monkeypatch):
    names = [f"d{n:02}/{m}.txt" for n in range(30) for m in "abc"]
    first = commit(world, repo, dict.fromkeys([*names, "plots/x.png", "z.txt"], b"1"))
    other = {"d03/b.txt": b"2", "new/a/b.txt": b"2", "z.txt": b"2"}
    changes = [*(Change(path, data=data) for path, data in other.items()), Change("d07/c.txt", delete_file=True)]
    second = world.history.commit(repo, "main", changes, title="t", author="ada")
    read, original = [], _trees.read_folder

    def counted(connection, oid):
        read.append(oid)
        return original(connection, oid)

    monkeypatch.setattr(_trees, "read_folder", counted)

    def asked(call, *arguments, most, **settings):
        read.clear()
        answer = call("ada/set", *arguments, **settings)
        assert len(read) <= most
        return answer

    shelf = world.shelf
    assert [one.path for one in asked(shelf.files, first.id, limit=4, most=4)] == [*names[:3], names[3]]
    assert [one.path for one in asked(shelf.files, first.id, after="d28/b.txt", limit=3, most=4)] == names[-4:-1]
    assert [one.path for one in asked(shelf.files, first.id, folder="plots", limit=9, most=3)] == ["plots/x.png"]
    assert asked(shelf.files, first.id, folder="nothing", limit=9, most=2) == []
    assert asked(shelf.some, first.id, ["z.txt", "nothing", "plots", "d03/nothing"], most=3)[0].path == "z.txt"
    found = asked(shelf.changes, first.id, second.id, limit=9, most=12)
    assert [(was and was.path, now and now.path) for was, now in found] == [
        ("z.txt", "z.txt"), ("d03/b.txt", "d03/b.txt"), ("d07/c.txt", None), (None, "new/a/b.txt"),
    ]  # fmt: skip
    assert asked(shelf.changes, second.id, second.id, limit=9, most=0) == []
    assert len(asked(shelf.changes, first.id, second.id, limit=2, most=4)) == 2
    monkeypatch.setattr(_trees, "MAX_COMPARED", 10)
    assert len(asked(shelf.changes, first.id, second.id, limit=9, most=2)) == 1


def test_what_became_a_folder_or_a_file_has_changed(world, repo):
    first = commit(world, repo, {"a": b"1", "b/c": b"1"})
    gone = [Change("a", delete_file=True), Change("b", delete_folder=True)]
    world.history.commit(repo, "main", gone, title="t", author="ada")
    last = commit(world, repo, {"a/c": b"1", "b": b"1"})
    found = world.shelf.changes("ada/set", first.id, last.id, limit=9)
    assert [(was and was.path, now and now.path) for was, now in found] == [
        ("a", None), (None, "b"), (None, "a/c"), ("b/c", None),
    ]  # fmt: skip


def test_all_changes_of_a_commit_or_none(world, repo):
    first = commit(world, repo, {"a.txt": b"one"})
    for bad in (Change("../x", data=b"x"), Change("x.bin", sha256="0" * 64), Change("nothing", delete_file=True)):
        with pytest.raises((InputError, HubNotFound)):
            world.history.commit(repo, "main", [Change("b.txt", data=b"b"), bad], title="t", author="ada")
    assert world.history.resolve(repo, "main").id == first.id
    assert contents(world, repo) == {"a.txt": b"one"}


def test_a_moved_parent_is_refused_and_a_repeated_request_is_the_same_commit(world, repo):
    start = world.history.resolve(repo, "main").id
    first = commit(world, repo, {"a.txt": b"one"}, parent=start)
    assert commit(world, repo, {"a.txt": b"one"}, parent=start) == first
    with pytest.raises(HubConflict) as error:
        commit(world, repo, {"b.txt": b"two"}, parent=start)
    assert error.value.facts["status"] == 412
    second = world.history.commit(repo, "main", [Change("a.txt", delete_file=True)], title="t", author="ada")
    assert world.history.commit(repo, "main", [Change("a.txt", delete_file=True)], title="t", author="ada") == second
    with pytest.raises(HubNotFound, match="A file with this name doesn't exist"):
        world.history.commit(repo, "main", [Change("b", delete_file=True)], title="t", author="ada")


def test_parallel_commits_make_one_line(world, repo):
    barrier = threading.Barrier(8)

    def work(worker):
        barrier.wait()
        return [commit(world, repo, {f"w{worker}/{n}.txt": b"%d" % n}).id for n in range(5)]

    with ThreadPoolExecutor(8) as pool:
        made = {one for ids in pool.map(work, range(8)) for one in ids}
    log = world.history.log(repo, world.history.resolve(repo, "main"), 100)
    assert len(log) == 41
    assert {c.id for c in log[:-1]} == made
    assert [c.parent for c in log[:-1]] == [c.id for c in log[1:]]
    assert len(contents(world, repo)) == 40


def test_of_parallel_commits_on_one_parent_one_wins(world, repo):
    start, barrier = world.history.resolve(repo, "main").id, threading.Barrier(6)

    def work(worker):
        barrier.wait()
        try:
            return commit(world, repo, {"same.txt": b"%d" % worker}, parent=start).id
        except HubConflict:
            return None

    with ThreadPoolExecutor(6) as pool:
        won = [one for one in pool.map(work, range(6)) if one is not None]
    assert len(won) == 1
    assert world.history.resolve(repo, "main").id == won[0]


def test_a_squash_beside_commits_loses_nothing(world, repo):
    def squash():
        for _ in range(5):
            world.history.squash(repo, "main", title="squash", message="", author="ada")

    def work():
        for n in range(10):
            commit(world, repo, {f"{n}.txt": b"%d" % n})

    threads = [threading.Thread(target=one) for one in (squash, work)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(contents(world, repo)) == 10


def test_of_parallel_creations_one_wins(world):
    def create(_):
        try:
            return world.repositories.create("model", "ada", "Net", private=False).id
        except HubConflict:
            return None

    with ThreadPoolExecutor(6) as pool:
        assert len([one for one in pool.map(create, range(6)) if one is not None]) == 1


def test_branches_and_tags(world, repo):
    first = commit(world, repo, {"a.txt": b"one"})
    world.history.create_ref(repo, "v1", "main", tag=True)
    world.history.create_ref(repo, "side/x", first.id, tag=False)
    commit(world, repo, {"a.txt": b"two"}, branch="side/x")
    assert contents(world, repo, "v1") == contents(world, repo) == {"a.txt": b"one"}
    assert contents(world, repo, "side/x") == {"a.txt": b"two"}
    with pytest.raises(HubConflict):
        world.history.create_ref(repo, "v1", "main", tag=True)
    with pytest.raises(HubNotFound):
        world.history.create_ref(repo, "v2", "nowhere", tag=True)
    for name in ("../x", "a..b", "-x", "x.lock", "a//b", "f" * 40, "refs/heads/main/"):
        with pytest.raises(InputError):
            world.history.create_ref(repo, name, "main", tag=False)
    world.history.delete_ref(repo, "v1", tag=True)
    assert world.history.resolve(repo, "v1") is None
    with pytest.raises(InputError):
        world.history.delete_ref(repo, "main", tag=False)


def test_the_last_commit_of_a_path_is_the_one_that_changed_it(world, repo):
    one = commit(world, repo, {"a.txt": b"1", "d/x.txt": b"x"})
    two = commit(world, repo, {"b.txt": b"2"})
    three = commit(world, repo, {"d/y.txt": b"y"})
    four = commit(world, repo, {"a.txt": b"4"})
    commit(world, repo, {"c.txt": b"5"})
    head = world.history.resolve(repo, "main")
    last = world.history.last_commits(repo, head, ["a.txt", "b.txt", "d", "d/x.txt"])
    assert last == {"a.txt": four, "b.txt": two, "d": three, "d/x.txt": one}


def test_a_walk_goes_on_behind_any_path(world, repo):
    names = ["a", "a.b/x", "a-b", "d/e/f", "d/e.x", "d/z", "e"]
    commit(world, repo, {name: name.encode() for name in names})
    head = world.history.resolve(repo, "main")
    whole = [path for path, _ in world.history.files(head)]
    assert sorted(set(whole) - {"a.b", "d", "d/e"}) == sorted(names)
    for at, path in enumerate(whole):
        assert [p for p, _ in world.history.files(head, after=path)] == whole[at + 1 :]


def test_many_paths_read_each_folder_once(world, repo, monkeypatch):
    made = commit(world, repo, {f"f/g/{n}.txt": b"%d" % n for n in range(300)})
    asked = [f"f/g/{n % 400}.txt" for n in range(2000)]
    reads, original = [], _trees.read_folder
    monkeypatch.setattr(_trees, "read_folder", lambda connection, oid: reads.append(oid) or original(connection, oid))
    found = world.history.nodes(made, asked)
    assert [node is not None for node in found] == [n % 400 < 300 for n in range(2000)]
    assert len(reads) == 3
    monkeypatch.setattr(_trees, "_ENTRIES", 2)
    assert world.history.nodes(made, asked) == found  # with one folder in memory, it takes longer
    assert len(reads) > 300


def test_what_one_commit_writes_and_describes_is_bounded(world, repo, monkeypatch):
    """Other writers wait while a commit is made: deep and many folders, and much to parse, are refused."""
    with pytest.raises(InputError, match="cannot be a path"):
        commit(world, repo, {"/".join("d" * 33): b"x"})
    monkeypatch.setattr(_history, "MAX_FOLDERS", 40)
    commit(world, repo, {f"{n}/x/a.txt": b"" for n in range(20)})
    with pytest.raises(InputError, match="at most 40 folders"):
        commit(world, repo, {f"{n}/y/a.txt": b"" for n in range(21)})
    _, _, files = artefact("weights", "example_weights", "sklearn/digits", random.Random(0), rows=20)
    size = sum(len(files[name]) for name in ("commentary.json", "evidence.json", "README.md"))
    monkeypatch.setattr(_listing, "MAX_INDEXED_BYTES", 2 * size)
    for name in "abc":
        commit(world, repo, {f"commentaries/{name}/{path}": data for path, data in files.items() if len(data) < 30_000})
    assert [one.folder for one in world.catalogue.of_repository("ada/Set")] == ["commentaries/a", "commentaries/b"]
    assert "commentaries/c" in world.repositories.get("dataset", "ada/Set").problem


def test_a_folder_is_bounded_and_one_that_is_larger_may_shrink(world, repo, monkeypatch):
    commit(world, repo, {f"old/{n:03}.txt": b"" for n in range(40)})
    monkeypatch.setattr(_trees, "MAX_FOLDER_BYTES", 3000)
    with pytest.raises(InputError, match="put its files into sub-folders"):
        commit(world, repo, {f"new/{n:03}.txt": b"" for n in range(40)})
    with pytest.raises(InputError, match="put its files into sub-folders"):
        commit(world, repo, {"old/more.txt": b""})
    commit(world, repo, {f"new/{n // 10}/{n:03}.txt": b"" for n in range(40)})
    world.history.commit(repo, "main", [Change("old/007.txt", delete_file=True)], title="t", author="ada")
    commit(world, repo, {"old/001.txt": b"1"})  # of the same length
    assert len(contents(world, repo)) == 79
    monkeypatch.setattr(_trees, "MAX_CHANGED_BYTES", 3000)  # of one folder more than there is room for in all
    with pytest.raises(InputError, match="make several commits"):
        commit(world, repo, {"new/0/000.txt": b"0", "new/3/030.txt": b"0", "old/001.txt": b"2"})
    commit(world, repo, {"new/0/000.txt": b"0", "new/3/030.txt": b"0"})
    world.history.commit(repo, "main", [Change("old", delete_folder=True)], title="t", author="ada")
    assert check(world).problems == []


def test_commentaries_inside_a_dataset_are_called_like_a_manifest(world, repo):
    _, _, files = artefact("weights", "example_weights", "sklearn/digits", random.Random(0), rows=20)
    for name in ("fine-1.0", "x; curl evil", "$(x)", "-x"):
        commit(world, repo, {f"commentaries/{name}/{path}": data for path, data in files.items() if len(data) < 30_000})
    assert [one.folder for one in world.catalogue.of_repository("ada/Set")] == ["commentaries/fine-1.0"]


def test_paths_are_one_file_on_every_system(world, repo):
    commit(world, repo, {"Name.txt": b"x", "folder/a": b"a"})
    for bad in ("name.txt", "Folder/b", "folder", "Name.txt/x"):
        with pytest.raises(InputError):
            commit(world, repo, {bad: b"y"})


def test_names_keep_their_case_move_and_are_never_two(world):
    one = world.repositories.create("dataset", "ada", "One", private=False)
    with pytest.raises(HubConflict):
        world.repositories.create("dataset", "ada", "oNE", private=False)
    moved = world.repositories.move(one, "ada", "Two")
    assert world.repositories.get("dataset", "ADA/ONE").name == moved.name == "ada/Two"
    again = world.repositories.create("dataset", "ada", "one", private=False)
    assert world.repositories.get("dataset", "ada/One").id == again.id != one.id
    for bad in ("tree", "resolve", "a b", "..", "x.git", "-a", "a--b", "é", "a" * 97):
        with pytest.raises(InputError):
            world.repositories.create("dataset", "ada", bad, private=False)


def test_a_push_beside_a_setting_a_move_or_a_deletion_lists_nothing_that_they_hide(world):
    """A push knows the repository as it was when it began; the catalogue follows what it is when the push ends."""
    _, _, files = artefact("weights", "example_weights", "sklearn/digits", random.Random(0), rows=20)
    before = world.repositories.create("dataset", "ada", "weights", private=False)
    commit(world, before, {name: data for name, data in files.items() if not name.endswith(".safetensors")})
    assert [one.id for one in world.catalogue.search(Query()).entries] == ["ada/weights"]
    world.repositories.set_private(before, private=True)
    commit(world, before, {"a.txt": b"1"})
    assert world.catalogue.search(Query()).total == 0
    world.repositories.set_private(before, private=False)
    world.repositories.move(before, "ada", "renamed")
    assert [one.id for one in world.catalogue.search(Query()).entries] == ["ada/renamed"]
    commit(world, before, {"a.txt": b"2"})
    world.history.squash(before, "main", title="t", message="", author="ada")
    assert [one.id for one in world.catalogue.search(Query()).entries] == ["ada/renamed"]
    world.repositories.set_private(before, private=True)
    assert world.catalogue.search(Query()).total == 0
    world.repositories.delete(before)
    with pytest.raises(HubNotFound):
        commit(world, before, {"a.txt": b"3"})
    assert world.catalogue.search(Query(), Viewer(is_admin=True)).total == 0


def test_a_number_is_never_given_twice(world):
    one = world.repositories.create("dataset", "ada", "one", private=False)
    world.repositories.delete(one)
    assert world.repositories.create("dataset", "ada", "two", private=False).id != one.id


def test_listing_pages_through_everything_once(world):
    for n in range(7):
        world.repositories.create("dataset", "ada", f"set-{n}", private=n == 3)
    for reads, expected in ((frozenset(), 6), (frozenset({"ada"}), 7)):
        for ascending in (True, False):
            found, cursor = [], None
            while True:
                page = world.repositories.list(
                    Filters("dataset", sort="createdAt", ascending=ascending, limit=2, cursor=cursor, reads=reads)
                )
                found += [one.name for one in page.repositories]
                cursor = page.cursor
                if cursor is None:
                    break
            assert len(found) == len(set(found)) == expected
            assert found == sorted(found, reverse=not ascending)
    with pytest.raises(InputError):
        world.repositories.list(Filters("dataset", cursor="nonsense"))


def test_the_last_commits_are_those_of_a_plain_comparison_and_their_cost_is_bounded(world, repo, monkeypatch):
    chance, names = random.Random(0), [f"{a}/{b}/{c}.txt" for a in "xyz" for b in ("b", "b-b", "b.b") for c in "12"]
    history = [(commit(world, repo, dict.fromkeys(names, b"0")), dict.fromkeys(names, b"0"))]
    for turn in range(1, 25):
        files = dict.fromkeys(chance.sample(names, chance.choice((1, 1, 3))), b"%d" % turn)
        history.append((commit(world, repo, files), history[-1][1] | files))
    head, expected = history[-1][0], {}
    for path in [*names, "x", "x/b", "y/b-b", "z/b.b"]:
        below = [name for name in names if name == path or name.startswith(f"{path}/")]
        expected[path] = next(
            made
            for (made, files), (_, before) in zip(history[::-1], [*history[-2::-1], (None, {})], strict=True)
            if any(files[name] != before.get(name) for name in below)
        )
    assert world.history.last_commits(repo, head, list(expected)) == expected
    commit(world, repo, {f"many/{n:04}": b"" for n in range(1000)})
    for turn in range(12):
        last = commit(world, repo, {"many/0000": b"%d" % turn})
    read, original = [], _revisions.read_folder

    def counted(connection, oid):
        read.append(len(folder := original(connection, oid)))
        return folder

    monkeypatch.setattr(_revisions, "read_folder", counted)
    monkeypatch.setattr(_revisions, "MAX_ENTRIES", 4000)
    found = world.history.last_commits(repo, last, ["many/0000", "many/0001"])
    assert found["many/0000"] == last
    assert found["many/0001"].id in {one.id for one in world.history.log(repo, last, 10)}  # the oldest that was seen
    assert sum(read) < 6000
