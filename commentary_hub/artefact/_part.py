"""Some rows of an artefact whose files lie elsewhere: the bytes that are needed are read, and few others.

Keys are digests, so they are spread evenly and a sorted table tells where a key must be: among n rows whose first and
last neighbours are known, at the share p of the way between them, give or take √(n p (1 - p)) rows. At first that is
±5,000 of 10⁸ rows, too many to read them all: a few rows there tell what lies nearby, for this key and for all others
that are wanted, and the next read, of some hundred rows, nearly always holds the key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import count
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
    tensor_digest,
)

_GAP_BYTES = 1 << 14
"""A range costs as much as so many bytes more of its neighbour, so nearer ones are read as one: among others in one
request it took 0.45 ms of work at both ends of one machine (`benchmarks/reuse.py`), in which 16 kB come at 35 MB/s."""
_WINDOW = _GAP_BYTES // KEY_BYTES  # rows: one range less is worth so many
_DEVIATIONS = 3.0  # to either side of where a key is expected: it is there in 997 of 1,000 cases
_PROBE = 16  # rows that tell where in the table one is, where a window would be too large
_TOP = 2.0**64

Numbers = NDArray[np.int64]
_KEY = np.dtype("S16")  # compared bytewise


def load_part(source: Source, keys: NDArray[np.uint8], *, cache: bool = True) -> StoredCommentary:
    """The commentary in ``source`` with only those rows of its table that belong to content ``keys`` uint8 [N, 16].

    Kinds without a table come whole; statistics and evidence stay where they are. Headers must agree with the
    manifest, rows must lie where their keys belong and numbers must be finite; but as no file is read whole, no digest
    can be checked: what is believed is the connection. The same rows of the same ``source.folder`` are kept on disk
    and not read twice (``cache``).
    Raises the leaves of `ArtefactError`.

    Cost, for a key in a table of M rows: a range of 256 bytes and one of a few kB in the column of keys, then one in
    each other column; ranges of many keys are asked for together (`Source.read`), in four or five rounds in all. Where
    keys are so many that ranges would cost half of a column, all of it is read.
    """
    manifest, cls = source.manifest, kind_class(source.manifest.kind)
    if keys.ndim != 2 or keys.shape[1] != KEY_BYTES or keys.dtype != np.uint8:
        raise InputError(f"keys are {keys.dtype} {list(keys.shape)}: give content keys, uint8 [N, {KEY_BYTES}]")
    wanted = np.unique(np.ascontiguousarray(keys).view(_KEY).ravel())
    path = _kept_at(source, wanted)
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
    tensors = {name: _Column(at[name], source).whole() for name in whole if name not in by_row}
    if not by_row:
        return tensors
    columns = {n: _Column(_required(at, n), source) for n in (KEYS_TENSOR, TARGETS_TENSOR, *by_row)}
    rows, own_keys = _find(columns[KEYS_TENSOR], wanted)
    tensors |= {name: column.rows(rows) for name, column in columns.items()}
    if not np.array_equal(tensors[KEYS_TENSOR].numpy(), own_keys):
        raise _unsorted()
    return tensors


def _kept_at(source: Source, wanted: NDArray[np.bytes_]) -> Path:
    """Where rows of this very source are kept: another one may claim its digests, and nobody has checked them."""
    name = hashlib.blake2b(digest_size=16)
    for said in (str(source.folder.resolve()), tensor_digest(source.manifest.files)):
        name.update(said.encode() + b"\0")
    name.update(wanted.tobytes())
    return cache_folder("parts") / f"{name.hexdigest()}.safetensors"


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


def _unsorted() -> TensorFileInvalid:
    return TensorFileInvalid("its rows are not sorted by key: pull the whole commentary", tensor=KEYS_TENSOR)


@dataclass(frozen=True, slots=True)
class _Column:
    """One tensor of a remote file, read by rows; ``held`` are blocks that were read, by their first rows."""

    place: TensorPlace
    source: Source
    held: list[tuple[int, NDArray[np.uint8]]] = field(default_factory=list)

    def merged(self, low: Numbers, high: Numbers) -> tuple[Numbers, Numbers]:
        """Spans of rows as few reads as is worth while."""
        return _merged(low, high, gap=_GAP_BYTES // max(self.place.row_bytes, 1))

    def cost(self, starts: Numbers, stops: Numbers) -> int:
        """What it costs to read these spans, in bytes."""
        return int((stops - starts).sum()) * self.place.row_bytes + len(starts) * _GAP_BYTES

    def blocks(self, starts: Numbers, stops: Numbers) -> list[NDArray[np.uint8]]:
        """The rows of each of these disjoint, ascending spans as bytes [n, row bytes]."""
        width, begin = self.place.row_bytes, self.place.begin
        spans = list(zip((begin + starts * width).tolist(), (begin + stops * width).tolist(), strict=True))
        read = self.source.read(self.place.file, spans)
        blocks = [np.frombuffer(content, dtype=np.uint8).reshape(-1, width) for content in read]
        self.held.extend(zip(starts.tolist(), blocks, strict=True))
        return blocks

    def rows(self, rows: Numbers) -> Tensor:
        """The tensor's ``rows`` (ascending, each once)."""
        found = np.empty((len(rows), self.place.row_bytes), dtype=np.uint8)
        if found.size:
            missing = np.ones(len(rows), dtype=bool)
            for start, block in self.held:
                _fill(found, rows, start, block, missing)
            if missing.any():
                starts, stops = self.merged(rows[missing], rows[missing] + 1)
                for start, block in zip(starts.tolist(), self.blocks(starts, stops), strict=True):
                    _fill(found, rows, start, block, missing)
        return self.place.tensor(found.tobytes(), rows=len(rows))

    def whole(self) -> Tensor:
        """All of the tensor."""
        spans = [(self.place.begin, self.place.end)] if self.place.size_bytes else []
        return self.place.tensor(b"".join(self.source.read(self.place.file, spans)))


def _fill(
    found: NDArray[np.uint8], rows: Numbers, start: int, block: NDArray[np.uint8], missing: NDArray[np.bool_]
) -> None:
    """Put those of ``rows`` into ``found`` that ``block`` holds."""
    first, last = np.searchsorted(rows, [start, start + len(block)])
    found[first:last] = block[rows[first:last] - start]
    missing[first:last] = False


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
    asked, places = np.unique(np.concatenate([wanted, following]), return_inverse=True)
    bounds = _lower_bounds(table, asked)[places]
    first, last = bounds[: len(wanted)], bounds[len(wanted) :].copy()
    last[(next_words == 0).all(axis=1)] = table.place.shape[0]  # after the last possible key comes the end
    if (last < first).any() or (first[1:] < last[:-1]).any():
        raise _unsorted()
    counts = last - first
    rows = np.repeat(first, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    own = np.repeat(wanted, counts)
    return rows, np.frombuffer(own.tobytes(), dtype=np.uint8).reshape(-1, KEY_BYTES)


def _lower_bounds(table: _Column, wanted: NDArray[np.bytes_]) -> Numbers:
    """The first row of the sorted table whose key is not smaller, for each key (ascending); M where there is none.

    Interpolation search for all keys at once: a round of reads tells each of them its nearest known neighbours, whoever
    they were read for. Every third round halves, so that a table of any keys is searched in O(log M) rounds. Where a
    round would cost half of the table, all of it is read, once.
    """
    size = table.place.shape[0]
    low, high = np.zeros(len(wanted), np.int64), np.full(len(wanted), size, np.int64)
    below, above = np.zeros(len(wanted)), np.full(len(wanted), _TOP)
    at = _words(wanted)[:, 0].astype(np.float64)
    for turn in count():
        open_ = np.flatnonzero(low < high)
        if not len(open_):
            break
        width = np.maximum(above[open_] - below[open_], 1.0)
        share = np.clip((at[open_] - below[open_]) / width, 0.0, 1.0)
        starts, stops = table.merged(*_windows(low[open_], high[open_], share, turn))
        if 2 * table.cost(starts, stops) > table.place.size_bytes:
            starts, stops = np.array([0]), np.array([size])
        known = np.ascontiguousarray(np.concatenate(table.blocks(starts, stops))).view(_KEY).ravel()
        if (known[1:] < known[:-1]).any():
            raise _unsorted()
        rows = np.arange(len(known)) + np.repeat(starts - np.cumsum(stops - starts) + (stops - starts), stops - starts)
        words = _words(known)[:, 0].astype(np.float64)
        place = np.searchsorted(known, wanted[open_])
        after, behind = open_[place < len(known)], open_[place > 0]
        right, left = place[place < len(known)], place[place > 0] - 1
        high[after], above[after] = np.minimum(high[after], rows[right]), words[right]
        low[behind], below[behind] = np.maximum(low[behind], rows[left] + 1), words[left]
    return low


def _windows(low: Numbers, high: Numbers, share: NDArray[np.float64], turn: int) -> tuple[Numbers, Numbers]:
    """Where to look for keys that lie between the rows ``low`` and ``high``, probably at ``share`` of the way."""
    if turn and turn % 3 == 0:
        share = np.full_like(share, 0.5)
    span = high - low
    probe = min(_PROBE << turn, _WINDOW)
    rows = np.ceil(2 * _DEVIATIONS * np.sqrt(span * share * (1 - share))).astype(np.int64) + probe
    rows = np.where(rows > _WINDOW, probe, rows)
    start = low + np.clip((share * span).astype(np.int64) - rows // 2, 0, np.maximum(span - rows, 0))
    return start, np.minimum(start + rows, high)


def _merged(low: Numbers, high: Numbers, *, gap: int) -> tuple[Numbers, Numbers]:
    """Spans as few as possible that hold all spans ``low`` to ``high``; those less than ``gap`` apart become one."""
    order = np.argsort(low, kind="stable")
    low, high = low[order], np.maximum.accumulate(high[order])
    new = np.concatenate([[True], low[1:] > high[:-1] + gap])
    return low[new], high[np.append(new[1:], True)]


def _words(keys: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    return np.frombuffer(keys.tobytes(), dtype=">u8").astype(np.uint64).reshape(-1, 2)
