"""Objects: uploads, leases, collection, proof, deletion for good. The same on every database and object store."""

import hashlib
import os
import threading

import pytest
from sqlalchemy import text

from commentary_hub.errors import DigestMismatch, HubConflict, HubNotFound
from commentary_hub_server.rules.repositories import (
    Change,
    object_key,
    store_stream,
)
from commentary_hub_server.upkeep import check, collect
from tests.server.contract.steps import commit, contents, on_s3_too, upload

pytestmark = pytest.mark.xdist_group("storage")


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


@on_s3_too
def test_a_file_that_came_inside_its_commit_is_shown_by_a_branch_too(world, repo):
    files = {"README.md": b"# A card", "f/large.txt": b"t" * 100_000}
    commit(world, repo, files)
    for data in files.values():
        with pytest.raises(HubConflict, match="delete the file in a commit first"):
            world.history.remove(repo, [hashlib.sha256(data).hexdigest()])
    assert contents(world, repo) == files
    assert world.history.large_files(repo) == []
    commit(world, repo, {"b.txt": b"b"})
