"""The Xet store's contract over each database and each object store: kept while used, gone afterwards, never shared."""

import hashlib
import threading

import pytest
from sqlalchemy import event, text

from commentary_hub.errors import HubNotFound
from commentary_hub_server import app
from commentary_hub_server.rules.repositories import Change
from commentary_hub_server.rules.xet import DatabaseIndex, Scope, Unknown, XetRefused, file_hash, to_text, xorb_key
from commentary_hub_server.rules.xet._database import FOREVER
from commentary_hub_server.upkeep import check, collect
from tests.server.xet.test_hostile import LEAVES, NAME, PARTS, XORB, accept_xorb, chunk, repeated, shard

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


def killed(*_):
    raise RuntimeError("killed")


def later(world):
    """A day passes: leases end, and everything is old."""
    with world.engine.begin() as connection:
        connection.execute(text("DELETE FROM object_leases"))
        connection.execute(text("UPDATE xet_holders SET until = 1 WHERE until < 4000000000000000000"))
        connection.execute(text("UPDATE xet_files SET created_at = 1"))
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
    world.history.remove(repo, [SHA256])
    assert world.repositories.by_id(repo.id).epoch == 1
    count, size = later(world)
    assert (count, size) == (1, len(XORB))
    with pytest.raises(Unknown):
        world.xet.known_chunk(scope(repo), LEAVES[0][0])
    with pytest.raises(XetRefused, match="upload it, then send the shard again"):
        world.xet.accept_shard(scope(repo), shard())
    push(world, repo)
    assert check(world).problems == []


def test_a_push_that_was_given_up_is_forgotten_after_a_day(world, repo):
    accept_xorb(world.xet, scope(repo), NAME, XORB)
    world.xet.accept_shard(scope(repo), shard())
    collect(world, older_than_s=-60)
    assert world.xet.by_sha256(str(repo.id), SHA256) is not None
    assert later(world) == (1, len(XORB))
    assert world.xet.by_sha256(str(repo.id), SHA256) is None
    push(world, repo)
    assert later(world) == (0, 0)
    assert check(world).problems == []


def test_a_shard_that_is_sent_again_keeps_its_file_for_another_day(world, repo):
    accept_xorb(world.xet, scope(repo), NAME, XORB)
    world.xet.accept_shard(scope(repo), shard())
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE xet_files SET created_at = 1"))
    assert world.xet.accept_shard(scope(repo), shard()) is False
    collect(world, older_than_s=-60)
    assert world.xet.by_sha256(str(repo.id), SHA256) is not None


def test_a_file_that_was_deleted_for_good_is_not_noted_by_who_found_it_before(world, repo):
    push(world, repo)
    world.history.commit(repo, "main", [Change("a.bin", delete_file=True)], title="t", author="ada")
    name, size = world.xet.by_sha256(str(repo.id), SHA256)
    world.history.remove(repo, [SHA256])
    with pytest.raises(HubNotFound, match="upload it again"):
        world.history.note_upload(repo, SHA256, size, xet=name)
    with pytest.raises(HubNotFound):
        world.history.commit(repo, "main", [Change("a.bin", sha256=SHA256)], title="t", author="ada")
    assert world.repositories.by_id(repo.id).size_bytes == 0


def test_a_deletion_for_good_happens_whole_or_not_at_all(world, repo, monkeypatch):
    push(world, repo)
    world.history.commit(repo, "main", [Change("a.bin", delete_file=True)], title="t", author="ada")
    with monkeypatch.context() as patch:
        patch.setattr(app, "forget_file", killed)
        with pytest.raises(RuntimeError, match="killed"):
            world.history.remove(repo, [SHA256])
    assert world.repositories.by_id(repo.id).size_bytes == world.history.holds(repo, SHA256) == len(CONTENT)
    world.history.remove(repo, [SHA256])
    assert later(world) == (1, len(XORB))


def test_a_file_that_comes_while_another_one_of_its_xorb_is_deleted_keeps_the_xorb(world, repo):
    push(world, repo)
    world.history.commit(repo, "main", [Change("a.bin", delete_file=True)], title="t", author="ada")
    comes = threading.Thread(target=lambda: world.xet.accept_shard(scope(repo), repeated(2)))

    @event.listens_for(world.engine, "before_cursor_execute")
    def _between(_connection, _cursor, statement, *_):
        if statement.startswith("DELETE FROM xet_holders") and comes.ident is None:
            comes.start()
            comes.join(1)  # it waits

    world.history.remove(repo, [SHA256])
    comes.join()
    sha256 = hashlib.sha256(CONTENT * 2).hexdigest()
    name, size = world.xet.by_sha256(str(repo.id), sha256)
    world.history.note_upload(repo, sha256, size, xet=name)
    with world.engine.connect() as connection:
        held = connection.execute(text("SELECT until FROM xet_holders")).scalars().all()
    assert held == [FOREVER]
    assert later(world) == (0, 0)
    assert check(world).problems == []


def test_a_xorb_that_a_file_names_is_never_collected(world, repo):
    push(world, repo)
    with world.engine.begin() as connection:
        connection.execute(text("DELETE FROM xet_holders"))
    assert later(world) == (0, 0)
    assert check(world).problems == []


def test_a_collection_that_is_killed_leaves_no_xorb_that_cannot_come_again(world, repo, monkeypatch):
    accept_xorb(world.xet, scope(repo), NAME, XORB)
    delete = world.objects.delete
    for last in (lambda _key: None, delete):  # before the bytes went, and behind
        with monkeypatch.context() as patch:
            patch.setattr(world.objects, "delete", lambda key, last=last: killed(last(key)))
            with pytest.raises(RuntimeError, match="killed"):
                later(world)
        with world.engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM xet_xorbs")).scalar_one() == 0
    made = push(world, repo)
    assert world.history.read(repo, world.history.open(repo, made, "a.bin"), 0, len(CONTENT)) == CONTENT
    assert check(world).problems == []


def test_bytes_that_were_lost_come_again_perhaps_packed_otherwise(world, repo):
    push(world, repo)
    world.objects.delete(xorb_key(NAME))
    accept_xorb(world.xet, scope(repo), NAME, b"".join(map(chunk, PARTS)))
    assert check(world).problems == []


def test_a_copy_of_a_file_that_is_deleted_meanwhile_is_refused(world, repo, monkeypatch):
    push(world, repo)
    world.history.commit(repo, "main", [Change("a.bin", delete_file=True)], title="t", author="ada")
    name, _ = world.xet.by_sha256(str(repo.id), SHA256)
    other = world.repositories.create("dataset", "ada", "other", private=False)
    take = DatabaseIndex.take

    def late(self, *arguments):
        monkeypatch.undo()
        world.history.remove(repo, [SHA256])
        later(world)
        take(self, *arguments)

    monkeypatch.setattr(DatabaseIndex, "take", late)
    assert world.xet.copy_file(str(repo.id), str(other.id), name) is False
    assert world.xet.by_sha256(str(other.id), SHA256) is None


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
