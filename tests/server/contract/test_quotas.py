"""Quotas: whatever comes at once, through whichever worker, an owner never holds more. The same on every database."""

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from commentary_hub.errors import HubConflict
from commentary_hub_server.app import open_world
from commentary_hub_server.rules.repositories import Quota
from commentary_hub_server.rules.repositories.tables import repositories
from commentary_hub_server.rules.xet import Scope, chunk_hash, xorb_hash
from commentary_hub_server.rules.xet.tables import holders, xorbs
from tests.server.contract.steps import commit, upload
from tests.server.xet.test_hostile import accept_xorb, chunk

pytestmark = pytest.mark.xdist_group("storage")
LIMIT, PIECE = 100_000, 30_000
ROOM = LIMIT // PIECE


@pytest.fixture
def workers(settings):
    """Two processes' worth of the same hub, and a repository for each of six clients."""
    worlds = [open_world(settings) for _ in range(2)]
    worlds[0].directory.add_user("ada")
    worlds[0].directory.set_quota("ada", LIMIT)
    clients = [
        (worlds[n % 2], worlds[0].repositories.create("dataset", "ada", f"set-{n}", private=False)) for n in range(6)
    ]
    yield clients
    for world in worlds:
        world.engine.dispose()


def send_object(world, repo, data):
    upload(world, repo, data)


def send_text(world, repo, data):
    commit(world, repo, {"a.txt": data})


def send_xorb(world, repo, data):
    name = xorb_hash([(chunk_hash(data), len(data))])
    accept_xorb(world.xet, Scope("ada", str(repo.id), "write", 2**40), name, chunk(data))


WAYS = {"objects": [send_object], "text": [send_text], "xorbs": [send_xorb], "mixed": [send_object, send_xorb]}


def accepted(way, world, repo, data):
    try:
        way(world, repo, data)
    except HubConflict as error:
        return error.facts["status"] != 403
    return True


def used(world):
    """(bytes of files, stored bytes of held xorbs) of ada, who is alone."""
    sums = (
        select(func.sum(repositories.c.size_bytes)),
        select(func.sum(xorbs.c.size_bytes)).where(xorbs.c.hash.in_(select(holders.c.xorb))),
    )
    with world.engine.connect() as connection:
        return tuple(connection.execute(one).scalar() or 0 for one in sums)


@pytest.mark.parametrize("ways", WAYS.values(), ids=list(WAYS))
def test_uploads_at_once_never_pass_the_quota(workers, ways, monkeypatch):
    """All have noted their bytes when the first is judged, and none is done at once: PostgreSQL would let all pass.

    SQLite lets one at a time come so far.
    """
    chance, judge = random.Random(0), Quota.demand
    all_noted = threading.Barrier(len(workers))

    def late(self, *arguments, **settings):
        together = "connection" in settings and settings["connection"].dialect.name == "postgresql"
        if together:
            all_noted.wait(20)
        judge(self, *arguments, **settings)
        if together:
            time.sleep(0.2)

    monkeypatch.setattr(Quota, "demand", late)
    with ThreadPoolExecutor(len(workers)) as pool:
        sent = [
            pool.submit(accepted, ways[n // 2 % len(ways)], *client, chance.randbytes(PIECE))
            for n, client in enumerate(workers)
        ]
        assert sum(one.result() for one in sent) == ROOM
    assert sum(used(workers[0][0])) <= LIMIT


def test_what_is_sent_again_is_not_charged_again(workers):
    (world, repo), data = workers[0], os.urandom(PIECE)
    start = world.history.resolve(repo, "main").id
    for way in (send_object, send_xorb):
        for _ in range(2 * ROOM):
            way(world, repo, data)
    made = [commit(world, repo, {"a.txt": b"x" * PIECE}, parent=start) for _ in range(2 * ROOM)]
    assert len({one.id for one in made}) == 1
    before = used(world)
    assert before == (2 * PIECE, PIECE + 8)
    world.directory.set_quota("ada", PIECE)  # not even where there would be no room now
    assert commit(world, repo, {"a.txt": b"x" * PIECE}, parent=start) == made[0]
    send_object(world, repo, data)
    send_xorb(world, repo, data)
    assert used(world) == before


def test_a_refusal_leaves_nothing_that_counts(workers):
    (world, repo), (_, other) = workers[:2]
    for way in (send_object, send_xorb, send_text):
        assert not accepted(way, world, repo, os.urandom(LIMIT + 1))
    assert used(world) == (0, 0)
    keys = set(world.objects.keys("objects"))
    assert not accepted(send_text, world, repo, os.urandom(2_000_000))  # too large for the database
    assert set(world.objects.keys("objects")) == keys
    for _ in range(ROOM):
        send_object(world, other, os.urandom(PIECE))


def test_a_repository_moves_only_where_there_is_room(workers):
    world, repo = workers[0]
    world.directory.add_org("lab", member="ada")
    send_object(world, repo, os.urandom(PIECE))
    world.directory.set_quota("lab", PIECE - 1)
    with pytest.raises(HubConflict, match="lab would have more than"):
        world.repositories.move(repo, "lab", "set")
    assert world.repositories.get("dataset", "ada/set-0") is not None
    world.directory.set_quota("ada", 1)
    world.repositories.move(repo, "ada", "renamed")  # the same owner needs no room
    world.directory.set_quota("lab", PIECE)
    assert world.repositories.move(repo, "lab", "set").owner == "lab"
