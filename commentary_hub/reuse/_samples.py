"""Samples that carry their row: the one place that knows what a sample looks like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import default_collate

ROW = "commentary_row"

Collate = Callable[[list[Any]], Any]


def carrying(sample: Any, row: Any) -> Any:
    """The sample with its row: an entry of a dictionary, else the last element of a tuple."""
    if isinstance(sample, Mapping):
        return {**sample, ROW: row}
    return (*sample, row) if isinstance(sample, (tuple, list)) else (sample, row)


def parted(sample: Any) -> tuple[Any, Any]:
    """The sample as it was, and its row; undoes `carrying` (a list comes back as a tuple)."""
    if isinstance(sample, Mapping):
        return {name: value for name, value in sample.items() if name != ROW}, sample[ROW]
    rest = sample[:-1]
    return (rest if len(rest) > 1 else rest[0]), sample[-1]


class CarryRows:
    """A collate function around somebody's own: theirs sees the samples as they were, the batch gains its rows."""

    def __init__(self, collate: Collate = default_collate) -> None:
        self._collate = collate

    def __call__(self, samples: Sequence[Any]) -> Any:
        """A batch as ``collate`` makes it, with ``rows`` [B] int64 added."""
        pairs = [parted(sample) for sample in samples]
        batch = self._collate([sample for sample, _ in pairs])
        return carrying(batch, torch.as_tensor([row for _, row in pairs]))
