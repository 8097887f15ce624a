"""Files written and read around the page cache: the same bytes as by it, wherever a file system draws the line."""

import errno
import os
from pathlib import Path

import pytest

from commentary_hub_server.store import _direct
from commentary_hub_server.store._direct import DirectFile, read_direct

BLOCK = _direct._BLOCK
DATA = os.urandom(2 * BLOCK + 1234)


def written(folder, pieces):
    with DirectFile(folder, "writing-") as file:
        for piece in pieces:
            assert file.write(piece) == len(piece)
        file.flush()
        os.link(file.name, folder / "kept")
    return (folder / "kept").read_bytes()


def cut(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [0, 1, 4095, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, len(DATA)])
def test_what_is_written_is_what_lies_on_the_disk(tmp_path, size):
    assert written(tmp_path, [DATA[:size]]) == DATA[:size]


@pytest.mark.parametrize("piece", [7_001, 1 << 20, BLOCK, 5 * BLOCK])
def test_however_it_is_cut_into_pieces(tmp_path, piece):
    assert written(tmp_path, map(memoryview, cut(DATA, piece))) == DATA


def test_writing_goes_on_after_a_flush(tmp_path):
    with DirectFile(tmp_path, "writing-") as file:
        for piece in cut(DATA, 1_000_003):
            file.write(piece)
            file.flush()
            assert (tmp_path / file.name).read_bytes()[:100] == DATA[:100]
        assert (tmp_path / file.name).read_bytes() == DATA


def test_it_vanishes_when_it_is_closed(tmp_path):
    with DirectFile(tmp_path, "writing-") as file:
        file.write(DATA)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["open", "pwrite"])
def test_a_file_system_without_direct_writing_is_written_to_as_usual(tmp_path, monkeypatch, call):
    """Some refuse when the file is opened, some when it is written to."""
    handles, own = set(), getattr(os, call)
    real_open = os.open

    def open_(path, flags, *more):
        if flags & os.O_DIRECT:
            if call == "open":
                raise OSError(errno.EINVAL, "no direct writing")
            handle = real_open(path, flags, *more)
            handles.add(handle)
            return handle
        return real_open(path, flags, *more)

    def pwrite(handle, data, at):
        if handle in handles:
            raise OSError(errno.EINVAL, "no direct writing")
        return own(handle, data, at)

    monkeypatch.setattr(os, "open", open_)
    if call == "pwrite":
        monkeypatch.setattr(os, "pwrite", pwrite)
    assert written(tmp_path, [DATA]) == DATA


def test_a_write_that_the_disk_takes_in_part_goes_on_where_it_ended(tmp_path, monkeypatch):
    own = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda handle, data, at: own(handle, data[: max(4096, len(data) // 8192 * 4096)], at)
    )
    assert written(tmp_path, cut(DATA, 1 << 20)) == DATA


def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path, [DATA])
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "stored"
    path.write_bytes(DATA)
    with path.open("rb", buffering=0) as file:
        yield file


def opened():
    return len(list(Path("/proc/self/fd").iterdir()))


def read(file, start, length):
    return b"".join(bytes(piece) for piece in read_direct(file, start, length))


@pytest.mark.parametrize("start", [0, 1, 4095, 4096, BLOCK - 1, BLOCK, BLOCK + 4097, len(DATA) - 1, len(DATA)])
@pytest.mark.parametrize("length", [1, 4096, BLOCK, 2 * BLOCK + 1, len(DATA)])
def test_any_range_is_read_and_no_more_than_there_is(stored, start, length):
    assert read(stored, start, length) == DATA[start : start + length]


@pytest.mark.parametrize("call", ["open", "preadv"])
def test_a_file_system_without_direct_reading_is_read_as_usual(stored, monkeypatch, call):
    own, real_open, handles = os.preadv, os.open, set()

    def open_(path, flags, *more):
        if flags & os.O_DIRECT and call == "open":
            raise OSError(errno.EINVAL, "no direct reading")
        handle = real_open(path, flags, *more)
        handles.add(handle)
        return handle

    def preadv(handle, blocks, at):
        if handle in handles and call == "preadv":
            raise OSError(errno.EINVAL, "no direct reading")
        return own(handle, blocks, at)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "preadv", preadv)
    assert read(stored, 5, len(DATA)) == DATA[5:]


def test_a_read_that_ends_early_goes_on_where_it_ended(stored, monkeypatch):
    own = os.preadv
    monkeypatch.setattr(os, "preadv", lambda handle, blocks, at: own(handle, [memoryview(blocks[0])[: BLOCK // 8]], at))
    assert read(stored, 5, len(DATA)) == DATA[5:]


def test_a_broken_disk_is_an_error_and_leaves_no_file_open(stored, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    before = opened()
    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(OSError, match="Input/output"):
        read(stored, 0, len(DATA))
    assert opened() == before


def test_a_reader_may_leave_early(stored):
    before = opened()
    pieces = read_direct(stored, 0, len(DATA))
    assert bytes(next(pieces)) == DATA[:BLOCK]
    pieces.close()
    assert opened() == before
