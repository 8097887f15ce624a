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


def match_rows(table_keys: Keys, table_targets: Keys, keys: Keys, targets: Keys | None) -> Match:
    """Match examples (``keys`` [N, 16], ``targets`` [N, 8] or ``None`` for unlabelled ones) with a sorted table.

    ``table_keys`` [M, 16] must be sorted bytewise, as artefacts store them; they may be memory-mapped: of a large
    table only every 4096th key and the brackets that the examples fall into are touched. O((M / 4096) + N log 4096)
    time, O(N + M / 4096) memory beside the table.
    """
    rows = np.full(len(keys), NO_ROW, dtype=np.int64)
    known = np.zeros(len(keys), dtype=bool)
    if len(table_keys) and len(keys):
        index = _words(table_keys[::_BRACKET])[0]
        order = np.argsort(_words(keys)[0], kind="stable")  # neighbours in the table are read together
        for low in range(0, len(order), _CHUNK):
            part = order[low : low + _CHUNK]
            wanted = None if targets is None else targets[part]
            rows[part], known[part] = _match_chunk(table_keys, table_targets, index, keys[part], wanted)
    found = int((rows >= 0).sum())
    return Match(rows, found, int((~known).sum()), int(known.sum()) - found)


def _match_chunk(
    table_keys: Keys, table_targets: Keys, index: NDArray[np.uint64], keys: Keys, targets: Keys | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    size = len(table_keys)
    high, low_words = _words(keys)
    start = np.maximum(np.searchsorted(index, high, side="left").astype(np.int64) - 1, 0) * _BRACKET
    stop = np.minimum(np.searchsorted(index, high, side="right").astype(np.int64) * _BRACKET, size)
    while bool((active := start < stop).any()):
        middle = (start + stop) // 2
        at = np.minimum(middle, size - 1)
        table_high, table_low = _words(table_keys[at])
        before = (table_high < high) | ((table_high == high) & (table_low < low_words))
        start = np.where(active & before, middle + 1, start)
        stop = np.where(active & ~before, middle, stop)
    rows = np.full(len(keys), NO_ROW, dtype=np.int64)
    known = np.zeros(len(keys), dtype=bool)
    place, pending = start, np.arange(len(keys))
    while len(pending):  # one key may have several rows, one for each target
        pending = pending[place[pending] < size]
        pending = pending[(table_keys[place[pending]] == keys[pending]).all(axis=1)]
        known[pending] = True
        if targets is None:
            rows[pending] = place[pending]
            break
        hit = (table_targets[place[pending]] == targets[pending]).all(axis=1)
        rows[pending[hit]] = place[pending[hit]]
        pending = pending[~hit]
        place[pending] += 1
    return rows, known


def _words(keys: Keys) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Keys as two numbers whose order is the order of the bytes."""
    words = np.ascontiguousarray(keys).view(">u8").astype(np.uint64)
    return words[:, 0], words[:, 1]
