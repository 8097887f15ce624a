"""Some rows of an artefact whose files lie elsewhere: the bytes that are needed are read, and few others.

Keys are digests, so they are spread evenly and a sorted table of M of them tells where a key must be: about row
M · key / 2¹²⁸, give or take √M. One block there, one more where the first missed, and its place is known.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from commentary_hub.artefact._header import Source, TensorPlace, places
from commentary_hub.artefact._load import StoredCommentary, assemble
from commentary_hub.artefact._rows import KEY_BYTES
from commentary_hub.artefact._tensors import check_finite
from commentary_hub.commentaries import Commentary, kind_class
from commentary_hub.data import cache_folder, keep
from commentary_hub.errors import InputError, TensorFileInvalid
from commentary_hub.manifest import (
    KEYS_TENSOR,
    STATE_PREFIX,
    TARGETS_TENSOR,
    VALIDATION_TENSOR,
    Manifest,
    tensor_digest,
)

_BLOCK = 256  # rows that are read where a key is expected
_GAP_BYTES = 1 << 14  # so many unneeded bytes cost less than another request
_REQUESTS = 8  # at a time
_TOP = 2.0**64

Numbers = NDArray[np.int64]
_KEY = np.dtype("S16")  # compared bytewise


def load_part(source: Source, keys: NDArray[np.uint8], *, cache: bool = True) -> StoredCommentary:
    """The commentary in ``source`` with only those rows of its table that belong to content ``keys`` uint8 [N, 16].

    Kinds without a table come whole; statistics and evidence stay where they are. Headers must agree with the
    manifest, rows must lie where their keys belong and numbers must be finite; but as no file is read whole, no digest
    can be checked: what is believed is the connection. The same rows are kept on disk and not read twice (``cache``).
    Raises the leaves of `ArtefactError`.

    Cost, for scattered keys in a table of M rows: about six requests of a few kB for each, eight at a time; for dense
    ones requests merge, up to a single one for each tensor.
    """
    manifest, cls = source.manifest, kind_class(source.manifest.kind)
    if keys.ndim != 2 or keys.shape[1] != KEY_BYTES or keys.dtype != np.uint8:
        raise InputError(f"keys are {keys.dtype} {list(keys.shape)}: give content keys, uint8 [N, {KEY_BYTES}]")
    wanted = np.unique(np.ascontiguousarray(keys).view(_KEY).ravel())
    path = _kept_at(manifest, wanted)
    tensors = _kept(path) if cache else None
    if tensors is None:
        tensors = _read(source, cls, wanted)
        check_finite(tensors, where=source.folder)
        if cache:
            content = safetensors.torch.save(tensors)
            keep(path, lambda file: file.write(content))
    rows = {"rows": len(tensors[KEYS_TENSOR])} if cls.row_tensors else {}
    part = manifest.model_copy(update={"parameters": manifest.parameters | rows})
    return assemble(source.folder, part, tensors, None)


def _read(source: Source, cls: type[Commentary], wanted: NDArray[np.bytes_]) -> dict[str, Tensor]:
    at = places(source)
    by_row = {STATE_PREFIX + name for name in cls.row_tensors}
    whole = [name for name in at if name.startswith(STATE_PREFIX) or name == VALIDATION_TENSOR]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        tensors = {name: _Column(at[name], source, pool).whole() for name in whole if name not in by_row}
        if not by_row:
            return tensors
        columns = {n: _Column(_required(at, n), source, pool) for n in (KEYS_TENSOR, TARGETS_TENSOR, *by_row)}
        rows, own_keys = _find(columns[KEYS_TENSOR], wanted)
        tensors |= {name: column.rows(rows) for name, column in columns.items()}
    if not np.array_equal(tensors[KEYS_TENSOR].numpy(), own_keys):
        raise TensorFileInvalid(
            f"{source.manifest.name}: its rows are not sorted by key: pull the whole commentary", tensor=KEYS_TENSOR
        )
    return tensors


def _kept_at(manifest: Manifest, wanted: NDArray[np.bytes_]) -> Path:
    name = hashlib.blake2b(tensor_digest(manifest.files).encode() + wanted.tobytes(), digest_size=16).hexdigest()
    return cache_folder("parts") / f"{name}.safetensors"


def _kept(path: Path) -> dict[str, Tensor] | None:
    """What an earlier call read, or ``None``: a damaged file is a missing one."""
    try:
        return safetensors.torch.load(path.read_bytes())
    except (OSError, SafetensorError, ValueError):
        return None


def _required(at: dict[str, TensorPlace], name: str) -> TensorPlace:
    if name not in at:
        raise TensorFileInvalid(f"tensor {name!r} is missing: pull the commentary again", tensor=name)
    return at[name]


@dataclass(frozen=True, slots=True)
class _Column:
    """One tensor of a remote file, read by rows; what was read whole is kept in ``held`` and not read again."""

    place: TensorPlace
    source: Source
    pool: ThreadPoolExecutor
    held: list[NDArray[np.uint8]] = field(default_factory=list)

    def merged(self, low: Numbers, high: Numbers) -> tuple[Numbers, Numbers]:
        """Spans of rows as few reads as is worth while."""
        return _merged(low, high, gap=_GAP_BYTES // max(self.place.row_bytes, 1))

    def covered(self, low: Numbers, high: Numbers) -> int:
        """How many rows are read for these spans."""
        starts, stops = self.merged(low, high)
        return int((stops - starts).sum())

    def blocks(self, low: Numbers, high: Numbers) -> tuple[Numbers, list[NDArray[np.uint8]]]:
        """Rows ``low`` to ``high`` of many spans: where each merged read starts, and its bytes [n, row bytes]."""
        width = self.place.row_bytes
        starts, stops = self.merged(low, high)

        def read(start: int, stop: int) -> NDArray[np.uint8]:
            if self.held:
                return self.held[0][start:stop]
            begin = self.place.begin
            content = self.source.read(self.place.file, begin + start * width, begin + stop * width)
            block = np.frombuffer(content, dtype=np.uint8).reshape(stop - start, width)
            if len(block) == self.place.shape[0]:
                self.held.append(block)
            return block

        return starts, list(self.pool.map(read, starts.tolist(), stops.tolist()))

    def rows(self, rows: Numbers) -> Tensor:
        """The tensor's ``rows`` (ascending)."""
        found = np.empty((len(rows), self.place.row_bytes), dtype=np.uint8)
        if len(rows) and self.place.row_bytes:
            starts, blocks = self.blocks(rows, rows + 1)
            owner = np.searchsorted(starts, rows, side="right") - 1
            for number, block in enumerate(blocks):
                mine = owner == number
                found[mine] = block[rows[mine] - starts[number]]
        return self.place.tensor(found.tobytes(), rows=len(rows))

    def whole(self) -> Tensor:
        """All of the tensor."""
        content = self.source.read(self.place.file, self.place.begin, self.place.end) if self.place.size_bytes else b""
        return self.place.tensor(content)


def _find(table: _Column, wanted: NDArray[np.bytes_]) -> tuple[Numbers, NDArray[np.uint8]]:
    """The rows [R] (ascending) of a sorted table [M, 16] whose keys are ``wanted``, and their keys [R, 16].

    One key may have several rows: its place and that of the next possible key bound them.
    """
    if table.place.shape[1:] != (KEY_BYTES,) or table.place.dtype != torch.uint8:
        raise TensorFileInvalid(f"keys must be uint8 [N, 16], found {list(table.place.shape)}", tensor=KEYS_TENSOR)
    words = _words(wanted)
    low_words = words[:, 1] + np.uint64(1)
    next_words = np.stack([words[:, 0] + (low_words == 0), low_words], axis=1)
    following = np.ascontiguousarray(next_words.astype(">u8")).view(_KEY).ravel()
    bounds = _lower_bounds(table, np.concatenate([wanted, following]))
    first, last = bounds[: len(wanted)], bounds[len(wanted) :].copy()
    last[(next_words == 0).all(axis=1)] = table.place.shape[0]  # after the last possible key comes the end
    counts = np.maximum(last - first, 0)
    rows = np.repeat(first, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    own = np.repeat(wanted, counts)
    return rows, np.frombuffer(own.tobytes(), dtype=np.uint8).reshape(-1, KEY_BYTES)


def _lower_bounds(table: _Column, wanted: NDArray[np.bytes_]) -> Numbers:
    """The first row of the sorted table whose key is not smaller, for each key; M where there is none.

    Interpolation search for all keys at once, a merged read for each round; every third round halves, so that a table
    of any keys is searched in O(log M) rounds. Where a round would read half of the table, all of it is read, once.
    """
    size = table.place.shape[0]
    low, high = np.zeros(len(wanted), np.int64), np.full(len(wanted), size, np.int64)
    below, above = np.zeros(len(wanted)), np.full(len(wanted), _TOP)
    at = _words(wanted)[:, 0].astype(np.float64)
    turn = 0
    while len(open_ := np.flatnonzero(low < high)):
        width = np.maximum(above[open_] - below[open_], 1.0)
        share = np.clip((at[open_] - below[open_]) / width, 0.0, 1.0) if turn % 3 < 2 else np.full(len(open_), 0.5)
        span = high[open_] - low[open_]
        start = low[open_] + np.clip((share * span).astype(np.int64) - _BLOCK // 2, 0, np.maximum(span - _BLOCK, 0))
        stop = np.minimum(start + _BLOCK, high[open_])
        if 2 * table.covered(start, stop) > size:
            (everything,) = table.blocks(np.array([0]), np.array([size]))[1]
            return np.searchsorted(np.ascontiguousarray(everything).view(_KEY).ravel(), wanted)
        starts, blocks = table.blocks(start, stop)
        owner = np.searchsorted(starts, start, side="right") - 1
        for number in np.unique(owner):
            block = np.ascontiguousarray(blocks[number]).view(_KEY).ravel()
            mine = open_[owner == number]
            found = np.searchsorted(block, wanted[mine])
            before, beyond = found == 0, found == len(block)
            inside = ~(before | beyond)
            place, end = int(starts[number]), int(starts[number]) + len(block)
            low[mine[inside]] = high[mine[inside]] = place + found[inside]
            high[mine[before]], above[mine[before]] = place, float(_words(block[:1])[0, 0])
            low[mine[beyond]], below[mine[beyond]] = end, float(_words(block[-1:])[0, 0])
        turn += 1
    return low


def _merged(low: Numbers, high: Numbers, *, gap: int) -> tuple[Numbers, Numbers]:
    """Spans as few as possible that hold all spans ``low`` to ``high``; those less than ``gap`` apart become one."""
    order = np.argsort(low, kind="stable")
    low, high = low[order], np.maximum.accumulate(high[order])
    new = np.concatenate([[True], low[1:] > high[:-1] + gap])
    return low[new], high[np.append(new[1:], True)]


def _words(keys: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    return np.frombuffer(keys.tobytes(), dtype=">u8").astype(np.uint64).reshape(-1, 2)
