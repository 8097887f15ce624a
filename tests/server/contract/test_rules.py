"""One contract for the rules, whatever lies below: SQLite or PostgreSQL, a local folder or S3."""

import hashlib
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select, text

from commentary_hub.errors import DigestMismatch, HubConflict, HubNotFound, InputError
from commentary_hub.manifest import Verification
from commentary_hub_server.app import _secret, open_world
from commentary_hub_server.rules.catalogue import Query, Viewer
from commentary_hub_server.rules.repositories import (
    Change,
    File,
    Filters,
    _history,
    _listing,
    _trees,
    object_key,
    store_stream,
)
from commentary_hub_server.rules.repositories.tables import trees
from commentary_hub_server.store import connect, metadata
from commentary_hub_server.upkeep import check, collect
from tests.server.catalogue.artefacts import artefact

pytestmark = pytest.mark.xdist_group("storage")
on_s3_too = pytest.mark.parametrize("settings", ["sqlite-local", "postgresql-local", "postgresql-s3"], indirect=True)


@pytest.fixture
def repo(world):
    return world.repositories.create("dataset", "ada", "Set", private=False)


def commit(world, repo, files, parent=None, branch="main", **settings):
    changes = [Change(path, data=data) for path, data in files.items()]
    return world.history.commit(repo, branch, changes, title="t", author="ada", parent=parent, **settings)


def upload(world, repo, data):
    sha256 = hashlib.sha256(data).hexdigest()
    world.leases.hold([object_key(sha256)])
    store_stream(world.objects, [data], sha256, len(data))
    world.history.note_upload(repo, sha256, len(data))
    return sha256


def contents(world, repo, revision="main"):
    at = world.history.resolve(repo, revision)
    found = {}
    for path, node in world.history.files(at):
        if isinstance(node, File):
            opened = world.history.open(repo, at, path)
            found[path] = world.history.read(repo, opened, 0, node.size_bytes)
    return found


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


def test_commentaries_inside_a_dataset_are_called_like_a_manifest(world, repo):
    _, _, files = artefact("weights", "example_weights", "sklearn/digits", random.Random(0), rows=20)
    for name in ("fine-1.0", "x; curl evil", "$(x)", "-x"):
        commit(world, repo, {f"commentaries/{name}/{path}": data for path, data in files.items() if len(data) < 30_000})
    assert [one.folder for one in world.catalogue.of_repository("ada/Set")] == ["commentaries/fine-1.0"]


def test_a_verification_counts_where_the_account_that_it_names_committed_it(world):
    for name in ("bob", "eve"):
        world.directory.add_user(name)
    manifest, evidence, files = artefact("weights", "example_weights", "sklearn/digits", random.Random(0), rows=20)
    small = {name: data for name, data in files.items() if len(data) < 30_000}
    said = {"account": "bob", "date": "2026-11-24", "hardware": "CPU", "agrees": True}
    told = evidence.model_copy(update={"verifications": (Verification(tensor_digest=evidence.tensor_digest, **said),)})
    told = Change("evidence.json", data=told.to_json().encode())
    repo = world.repositories.create("dataset", "ada", "weights", private=False)

    def pushed(by, *changes):
        world.history.commit(repo, "main", changes, title="t", author=by)
        return world.catalogue.one("ada/weights").verified

    assert not pushed(
        "ada", *(Change(name, data=data) for name, data in small.items() if name != "evidence.json"), told
    )
    assert not pushed("eve", Change("evidence.json", data=files["evidence.json"]))
    assert not pushed("eve", told)
    assert not pushed("bob", Change("a.txt", data=b"x"))
    assert not pushed("ada", Change("evidence.json", data=files["evidence.json"]))
    assert pushed("bob", told)
    assert pushed("ada", Change("a.txt", data=b"y"))
    assert not pushed("bob", Change("commentary.json", data=manifest.to_json().encode() + b"\n"))


def test_a_new_password_and_signing_out_begin_another_epoch_of_sessions(world):
    epochs = [world.directory.session_epoch("Ada")]
    world.directory.set_password("ada", "long enough")
    epochs.append(world.directory.session_epoch("ada"))
    world.directory.end_sessions("ADA")
    epochs.append(world.directory.session_epoch("ada"))
    assert epochs == [0, 1, 2]
    assert world.directory.session_epoch("nobody") is None


def test_paths_are_one_file_on_every_system(world, repo):
    commit(world, repo, {"Name.txt": b"x", "folder/a": b"a"})
    for bad in ("name.txt", "Folder/b", "folder", "Name.txt/x"):
        with pytest.raises(InputError):
            commit(world, repo, {bad: b"y"})


@on_s3_too
def test_nobody_holds_what_another_repository_uploaded(world, repo):
    sha256 = upload(world, repo, b"secret" * 50_000)
    other = world.repositories.create("dataset", "ada", "other", private=False)
    with pytest.raises(HubNotFound, match="was not uploaded to this repository"):
        world.history.commit(other, "main", [Change("s.bin", sha256=sha256)], title="t", author="ada")
    with pytest.raises(HubNotFound):
        world.history.commit(repo, "main", [Change("s.bin", sha256=sha256, size_bytes=1)], title="t", author="ada")


@on_s3_too
def test_an_upload_with_another_hash_is_never_visible(world):
    claimed = hashlib.sha256(b"honest").hexdigest()
    for data, size in ((b"hOnest", 6), (b"honest!", 6), (b"hon", 6), (b"honest", 5)):
        with pytest.raises(DigestMismatch):
            store_stream(world.objects, [data], claimed, size)
        assert world.objects.size(object_key(claimed)) is None


@on_s3_too
def test_of_two_uploads_of_one_object_the_loser_takes_nothing_away(world):
    data, key = os.urandom(200_000), "objects/ab/cd/" + "ab" * 32
    halfway, finished = threading.Event(), threading.Event()

    def slow():
        yield data[:1000]
        halfway.set()
        finished.wait(20)
        raise DigestMismatch("the rest never came")

    def lose():
        with pytest.raises(DigestMismatch):
            world.objects.put(key, slow())

    loser = threading.Thread(target=lose)
    loser.start()
    halfway.wait(20)
    assert world.objects.put(key, [data]) is True
    finished.set()
    loser.join()
    assert world.objects.put(key, [b"other"]) is False
    assert world.objects.read(key) == data
    assert world.objects.read(key, 199_990, 100) == data[199_990:]


@on_s3_too
def test_collection_spares_what_is_held_or_leased_and_takes_the_rest(world, repo):
    kept = commit(world, repo, {"small.txt": b"small", "text.txt": b"t" * 100_000})
    held = upload(world, repo, b"held" * 30_000)
    leased, lost = (hashlib.sha256(data).hexdigest() for data in (b"leased", b"lost"))
    for data, sha256 in ((b"leased", leased), (b"lost", lost)):
        store_stream(world.objects, [data], sha256, len(data))
    world.leases.hold([object_key(leased)])
    gone = world.repositories.create("dataset", "ada", "gone", private=False)
    commit(world, gone, {"a.txt": b"only here", "big.txt": b"only" * 30_000})
    world.repositories.delete(gone)
    with world.engine.begin() as connection:  # a day later
        connection.execute(
            text("UPDATE object_leases SET until = 0 WHERE key NOT LIKE :leased"), {"leased": f"%{leased}"}
        )
    assert collect(world, older_than_s=3600) == (0, 0)
    count, _ = collect(world, older_than_s=-60)
    assert count == 3  # lost, the deleted repository's text and its object
    assert world.objects.size(object_key(lost)) is None
    assert world.objects.size(object_key(leased)) == 6
    assert world.history.holds(repo, held) == 120_000
    assert contents(world, repo, kept.id) == {"small.txt": b"small", "text.txt": b"t" * 100_000}
    assert check(world).problems == []


@on_s3_too
def test_collection_beside_uploads_of_the_same_objects_loses_nothing(world, repo):
    texts = [b"%d " % n * 40_000 for n in range(6)]
    stop = threading.Event()

    def collecting():
        while not stop.is_set():
            with world.engine.begin() as connection:
                connection.execute(text("UPDATE object_leases SET until = 1 WHERE key LIKE 'objects/%' AND until < 2"))
            collect(world, older_than_s=-60)

    collector = threading.Thread(target=collecting)
    collector.start()
    try:
        for turn in range(4):
            other = world.repositories.create("dataset", "ada", f"turn-{turn}", private=False)
            for n, data in enumerate(texts):
                commit(world, other, {f"{n}.txt": data})
            assert len(contents(world, other)) == 6
            world.repositories.delete(other)
            with world.engine.begin() as connection:
                connection.execute(text("DELETE FROM object_leases WHERE key LIKE 'objects/%'"))
        commit(world, repo, {f"{n}.txt": data for n, data in enumerate(texts)})
    finally:
        stop.set()
        collector.join()
    assert contents(world, repo) == {f"{n}.txt": data for n, data in enumerate(texts)}
    assert check(world).problems == []


@on_s3_too
def test_fsck_names_what_is_missing_or_damaged(world, repo):
    sha256 = upload(world, repo, b"big" * 100_000)
    world.history.commit(repo, "main", [Change("big.bin", sha256=sha256)], title="t", author="ada")
    commit(world, repo, {"a.txt": b"small"})
    assert check(world).problems == []
    world.objects.delete(object_key(sha256))
    assert any(sha256 in problem for problem in check(world).problems)
    world.objects.put(object_key(sha256), [b"bad" * 100_000])
    assert f"ada/Set: object {sha256} is damaged" in check(world).problems
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE blobs SET content = :other"), {"other": b"evil!"})
        connection.execute(text("DELETE FROM trees WHERE id IN (SELECT tree FROM commits)"))
    problems = " ".join(check(world).problems)
    assert "is not stored" in problems
    assert problems.count("is damaged") == 2


@on_s3_too
def test_what_was_deleted_for_good_is_gone_from_old_revisions_only(world, repo):
    sha256 = upload(world, repo, b"big" * 100_000)
    old = world.history.commit(repo, "main", [Change("big.bin", sha256=sha256)], title="t", author="ada")
    with pytest.raises(HubConflict, match="delete the file in a commit first"):
        world.history.remove(repo, [sha256])
    world.history.commit(repo, "main", [Change("big.bin", delete_file=True)], title="t", author="ada")
    assert [one.path for one in world.history.large_files(repo)] == ["big.bin"]
    world.history.remove(repo, [sha256])
    assert world.history.open(repo, old, "big.bin") is None
    assert world.repositories.get("dataset", "ada/set").size_bytes == 0
    assert world.history.large_files(repo) == []
    assert check(world).problems == []
    assert upload(world, repo, b"big" * 100_000) == sha256
    assert world.history.open(repo, old, "big.bin") is not None


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


def test_accounts_tokens_and_passwords(world):
    directory = world.directory
    directory.add_user("Grace", password="correct horse")
    directory.add_org("navy", member="Grace", role="read")
    assert directory.check_password("grace", "correct horse") == "Grace"
    assert directory.check_password("grace", "wrong horse") is None
    assert directory.check_password("nobody", "correct horse") is None
    secret = directory.create_token("grace", role="read", expires_at=4e9)
    profile = directory.by_token(secret)
    assert profile.reads == {"grace", "navy"}
    assert profile.writes == {"grace"}
    assert not profile.may_write("dataset/grace/x")
    assert profile.may_read("dataset/navy/x", private=True)
    with world.engine.connect() as connection:
        stored = " ".join(map(str, connection.execute(text("SELECT * FROM tokens")).all()))
        hashed = connection.execute(text("SELECT password FROM owners WHERE key = 'grace'")).scalar_one()
    assert secret not in stored
    assert hashed.startswith("$argon2id$")
    for bad in (directory.create_token("grace", expires_at=1.0), "hf_never_given"):
        with pytest.raises(PermissionError):
            directory.by_token(bad)
    directory.revoke_token("grace", directory.tokens("grace")[0].id)
    with pytest.raises(PermissionError):
        directory.by_token(secret)
    with pytest.raises(HubConflict):
        directory.add_org("GRACE")
    assert profile.orgs == (("navy", "", "read"),)


def test_the_migrations_make_the_tables_that_the_code_describes(settings):
    world = open_world(settings)
    world.engine.dispose()
    engine = connect(settings.database)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_several_processes_may_start_at_once(settings):
    if settings.database_url:
        engine = connect(settings.database)
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        engine.dispose()
    with ThreadPoolExecutor(4) as pool:
        worlds = list(pool.map(lambda _: open_world(settings), range(4)))
    assert len({one.secret for one in worlds}) == 1
    for one in worlds:
        one.engine.dispose()


def test_the_secret_appears_whole_to_everybody_who_starts_at_once(tmp_path):
    for number in range(50):
        folder = tmp_path / str(number)
        folder.mkdir()
        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(_secret, [folder / "secret"] * 8))
        assert {len(one) for one in found} == {64}
        assert len(found) == 1
        assert [one.name for one in folder.iterdir()] == ["secret"]
