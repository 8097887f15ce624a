"""Files written around the page cache: the same bytes as by it, wherever a file system draws the line."""

import errno
import os

import pytest

from commentary_hub_server.store import _direct
from commentary_hub_server.store._direct import DirectFile

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
