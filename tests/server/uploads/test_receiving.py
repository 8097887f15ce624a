"""Bodies on their way in: hashed and written whole, bounded, and given up without holding up anybody."""

import asyncio
import hashlib
import os
import time
from pathlib import Path

import pytest

from commentary_hub.errors import DigestMismatch
from commentary_hub_server.rules.uploads import Uploads, hand_on
from commentary_hub_server.store import open_objects
from commentary_hub_server.store._direct import DirectFile

DATA = os.urandom(5 << 20)


async def arriving(data, piece=70_000, then=None):
    for at in range(0, len(data), piece):
        yield data[at : at + piece]
    if then is not None:
        raise then


@pytest.fixture
def uploads(tmp_path):
    return Uploads(open_objects(str(tmp_path)), leases=None)


async def received(uploads, stream, size):
    async with uploads.receiving(stream, size) as body:
        body.spool.flush()
        return body.sha256, Path(body.spool.name).read_bytes()


@pytest.mark.parametrize("size", [0, 1, 1 << 20, len(DATA)])
def test_every_byte_is_hashed_and_written_in_order(uploads, size):
    digest, content = asyncio.run(received(uploads, arriving(DATA[:size]), size))
    assert (digest, content) == (hashlib.sha256(DATA[:size]).hexdigest(), DATA[:size])


@pytest.mark.parametrize(("size", "says"), [(len(DATA) - 1, "longer than"), (len(DATA) + 1, "send it again")])
def test_another_length_than_announced_is_refused(uploads, size, says):
    with pytest.raises(DigestMismatch, match=says):
        asyncio.run(received(uploads, arriving(DATA), size))


def test_a_full_disk_is_told_and_not_waited_for(uploads, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DirectFile, "write", full)
    with pytest.raises(OSError, match="No space left"):
        asyncio.run(asyncio.wait_for(received(uploads, arriving(DATA * 4), 4 * len(DATA)), 30))


def test_a_client_that_leaves_holds_up_nobody(uploads, monkeypatch, tmp_path):
    monkeypatch.setattr(DirectFile, "write", lambda *_: time.sleep(0.3))

    async def left_alone():
        slowest, ended = (
            0.0,
            asyncio.ensure_future(received(uploads, arriving(DATA, then=ConnectionError()), len(DATA))),
        )
        while not ended.done():
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            slowest = max(slowest, time.perf_counter() - began)
        with pytest.raises(ConnectionError):
            await ended
        return slowest

    assert asyncio.run(left_alone()) < 0.25
    assert not [path for path in Path(tmp_path).rglob("*") if path.is_file()]


def test_a_slow_disk_holds_up_the_sender_and_not_the_memory():
    waiting, most = 0, 0

    async def quick():
        nonlocal waiting, most
        for _ in range(1_000):
            waiting += 64 << 10
            most = max(most, waiting)
            yield bytes(64 << 10)

    def slow(pieces):
        nonlocal waiting
        time.sleep(0.01)
        waiting -= sum(map(len, pieces))

    asyncio.run(hand_on(quick(), slow))
    assert waiting == 0
    assert most < 20 << 20  # of 62 MiB


def test_who_is_cancelled_waits_for_the_thread_that_still_writes():
    written = []

    async def two():
        yield bytes(2 << 20)
        yield bytes(2 << 20)

    def slow(_pieces):
        time.sleep(0.3)
        written.append(time.perf_counter())

    async def cancelled():
        handing = asyncio.ensure_future(hand_on(two(), slow))
        await asyncio.sleep(0.1)  # all is handed on, and the first piece is being written
        handing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await handing
        return time.perf_counter()

    ended = asyncio.run(cancelled())
    assert written
    assert max(written) <= ended
