"""Finding a dataset's examples in a commentary's table, by content key and target digest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commentary_hub.data import Keys

NO_ROW = -1
_BRACKET = 4096
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Match:
    """``rows`` int64 [N]: the table's row of each example, -1 where it has none.

    ``found`` examples have a row; ``missing`` have no key in the table; ``other_target`` have their key there, but
    only with another target. The three add up to N.
    """

    rows: NDArray[np.int64]
    found: int
    missing: int
    other_target: int


class KeyIndex:
    """A table of keys [M, 16] (sorted bytewise, as artefacts store them) and target digests [M, 8], ready for look-ups.

    The arrays may be memory-mapped: of a large table only every 4096th key and the brackets that the examples fall
    into are touched. The index itself is M / 4096 numbers.
    """

    def __init__(self, keys: Keys, targets: Keys | None) -> None:
        self._keys = keys
        self._targets = targets
        self._index = _words(keys[::_BRACKET])[0] if len(keys) else np.empty(0, np.uint64)

    def match(self, keys: Keys, targets: Keys | None) -> Match:
        """Find examples by ``keys`` [N, 16] and ``targets`` [N, 8] (``None``: by content alone).

        O(N log N) for sorting, so that neighbours in the table are read together, and O(N log 4096) for finding.
        """
        rows = np.full(len(keys), NO_ROW, dtype=np.int64)
        known = np.zeros(len(keys), dtype=bool)
        if len(self._keys) and len(keys):
            order = np.argsort(_words(keys)[0], kind="stable") if len(keys) > 1 else np.zeros(1, np.int64)
            for low in range(0, len(order), _CHUNK):
                part = order[low : low + _CHUNK]
                rows[part], known[part] = self._match_chunk(keys[part], None if targets is None else targets[part])
        found = int((rows >= 0).sum())
        return Match(rows, found, int((~known).sum()), int(known.sum()) - found)

    def _match_chunk(self, keys: Keys, targets: Keys | None) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        size = len(self._keys)
        rows = np.full(len(keys), NO_ROW, dtype=np.int64)
        known = np.zeros(len(keys), dtype=bool)
        place, pending = self._first_not_before(keys), np.arange(len(keys))
        while len(pending):  # one key may have several rows, one for each target
            pending = pending[place[pending] < size]
            pending = pending[(self._keys[place[pending]] == keys[pending]).all(axis=1)]
            known[pending] = True
            if targets is None or self._targets is None:
                rows[pending] = place[pending]
                break
            hit = (self._targets[place[pending]] == targets[pending]).all(axis=1)
            rows[pending[hit]] = place[pending[hit]]
            pending = pending[~hit]
            place[pending] += 1
        return rows, known

    def _first_not_before(self, keys: Keys) -> NDArray[np.int64]:
        """The first row of the table whose key is not smaller, for each of ``keys``; the table's size for none."""
        size = len(self._keys)
        high, low = _words(keys)
        start = np.maximum(np.searchsorted(self._index, high, side="left").astype(np.int64) - 1, 0) * _BRACKET
        stop = np.minimum(np.searchsorted(self._index, high, side="right").astype(np.int64) * _BRACKET, size)
        while bool((active := start < stop).any()):
            middle = (start + stop) // 2
            table_high, table_low = _words(self._keys[np.minimum(middle, size - 1)])
            before = (table_high < high) | ((table_high == high) & (table_low < low))
            start = np.where(active & before, middle + 1, start)
            stop = np.where(active & ~before, middle, stop)
        return start


def match_rows(table_keys: Keys, table_targets: Keys, keys: Keys, targets: Keys | None) -> Match:
    """Match examples (``keys`` [N, 16], ``targets`` [N, 8] or ``None`` for unlabelled ones) with a sorted table.

    See `KeyIndex`, which is the same for many look-ups in one table.
    """
    return KeyIndex(table_keys, table_targets).match(keys, targets)


def _words(keys: Keys) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Keys as two numbers whose order is the order of the bytes."""
    words = np.ascontiguousarray(keys).view(">u8").astype(np.uint64)
    return words[:, 0], words[:, 1]
