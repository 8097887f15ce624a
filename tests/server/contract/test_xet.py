"""The Xet store's contract over each database and each object store: kept while used, gone afterwards, never shared."""

import hashlib
import threading

import pytest
from sqlalchemy import text

from commentary_hub_server.rules.repositories import Change
from commentary_hub_server.rules.xet import Scope, Unknown, XetRefused, file_hash, to_text, xorb_key
from commentary_hub_server.upkeep import check, collect
from tests.server.xet.test_hostile import LEAVES, NAME, PARTS, XORB, accept_xorb, shard

pytestmark = [
    pytest.mark.xdist_group("storage"),
    pytest.mark.parametrize("settings", ["sqlite-local", "postgresql-local", "postgresql-s3"], indirect=True),
]
CONTENT = b"".join(PARTS)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def scope(repo):
    return Scope("ada", str(repo.id), "write", 2**40)


@pytest.fixture
def repo(world):
    return world.repositories.create("dataset", "ada", "set", private=False)


def push(world, repo):
    accept_xorb(world.xet, scope(repo), NAME, XORB)
    world.xet.accept_shard(scope(repo), shard())
    name, size = world.xet.by_sha256(str(repo.id), SHA256)
    world.history.note_upload(repo, SHA256, size, xet=name)
    return world.history.commit(repo, "main", [Change("a.bin", sha256=SHA256)], title="t", author="ada")


def later(world):
    """A day passes: leases end, and everything is old."""
    with world.engine.begin() as connection:
        connection.execute(text("DELETE FROM object_leases"))
        connection.execute(text("UPDATE xet_holders SET until = 1 WHERE until < 4000000000000000000"))
    return collect(world, older_than_s=-60)


def test_a_file_is_read_whole_and_in_part(world, repo):
    made = push(world, repo)
    opened = world.history.open(repo, made, "a.bin")
    assert opened.xet == to_text(file_hash(LEAVES))
    assert world.history.read(repo, opened, 0, len(CONTENT)) == CONTENT
    assert world.history.read(repo, opened, 990, 200) == CONTENT[990:1190]
    assert world.xet.accept_shard(scope(repo), shard()) is False
    assert check(world).problems == []


def test_what_a_file_uses_is_kept_and_goes_with_it(world, repo):
    push(world, repo)
    assert later(world) == (0, 0)
    world.history.commit(repo, "main", [Change("a.bin", delete_file=True)], title="t", author="ada")
    (xet,) = world.history.remove(repo, [SHA256])
    world.xet.forget_file(str(repo.id), xet)
    count, size = later(world)
    assert (count, size) == (1, len(XORB))
    with pytest.raises(Unknown):
        world.xet.known_chunk(scope(repo), LEAVES[0][0])
    with pytest.raises(XetRefused, match="upload it, then send the shard again"):
        world.xet.accept_shard(scope(repo), shard())
    push(world, repo)
    assert check(world).problems == []


def test_a_deleted_repository_leaves_nothing_to_its_successors(world, repo):
    push(world, repo)
    world.repositories.delete(repo)
    again = world.repositories.create("dataset", "ada", "set", private=False)
    assert world.xet.by_sha256(str(again.id), SHA256) is None
    assert later(world)[0] == 1
    assert world.objects.size(xorb_key(NAME)) is None


def test_an_upload_beside_a_collection_of_the_same_xorb_is_whole(world, repo):
    stop = threading.Event()

    def collecting():
        while not stop.is_set():
            collect(world, older_than_s=-60)

    collector = threading.Thread(target=collecting)
    collector.start()
    try:
        for turn in range(5):
            one = world.repositories.create("dataset", "ada", f"turn-{turn}", private=False)
            made = push(world, one)
            assert world.history.read(one, world.history.open(one, made, "a.bin"), 0, len(CONTENT)) == CONTENT
            world.repositories.delete(one)
            with world.engine.begin() as connection:
                connection.execute(text("DELETE FROM object_leases WHERE key LIKE 'xorbs/%'"))
        push(world, repo)
    finally:
        stop.set()
        collector.join()
    assert check(world).problems == []
