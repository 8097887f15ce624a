"""Samples that carry their row: the one place that knows what a sample looks like."""

from __future__ import annotations

import copy
from collections import namedtuple
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate

from commentary_hub.data import ROW
from commentary_hub.errors import InputError

Collate = Callable[[list[Any]], Any]


def carrying(sample: Any, row: Any) -> Any:
    """The sample with its row: an entry of a dictionary, a field of a named tuple, else the last element of a tuple."""
    if isinstance(sample, Mapping):
        return _of_its_kind(sample, {**sample, ROW: row})
    if isinstance(sample, tuple) and hasattr(sample, "_fields"):
        return _with_row(type(sample))(*sample, row)
    return (*sample, row) if isinstance(sample, (tuple, list)) else (sample, row)


def parted(sample: Any) -> tuple[Any, Any]:
    """The sample as it was, and its row; undoes `carrying` (a list comes back as a tuple).

    Raises `InputError` for a dictionary without one.
    """
    if isinstance(sample, Mapping):
        if ROW not in sample:
            raise InputError(
                f"a sample has {', '.join(map(str, sample))}, but no {ROW}: let the loader read the binding, or a "
                "dataset made from binding.dataset"
            )
        rest = {name: value for name, value in sample.items() if name != ROW}
        return _of_its_kind(sample, rest), sample[ROW]
    rest = sample[:-1]
    named = getattr(type(sample), "commentary_of", None)
    if named is not None:
        return named(*rest), sample[-1]
    return (rest if len(rest) > 1 else rest[0]), sample[-1]


class RowsBeside(NamedTuple):
    """A batch just as a collate function made it, and beside it the ``rows`` [B] (or [B, K]) int64 of its samples."""

    batch: Any
    rows: Tensor


class CollateBeside:
    """A collate function around somebody's own: theirs sees the samples as they were, and nobody touches its batch."""

    def __init__(self, collate: Collate = default_collate) -> None:
        self._collate = collate

    def __call__(self, samples: Sequence[Any]) -> RowsBeside:
        """A batch as ``collate`` makes it, beside its rows."""
        pairs = [parted(sample) for sample in samples]
        batch = self._collate([sample for sample, _ in pairs])
        return RowsBeside(batch, torch.stack([torch.as_tensor(row) for _, row in pairs]))


class CarryRows:
    """A collate function around somebody's own: theirs sees the samples as they were, the batch gains its rows."""

    def __init__(self, collate: Collate = default_collate) -> None:
        self._beside = CollateBeside(collate)

    def __call__(self, samples: Sequence[Any]) -> Any:
        """A batch as ``collate`` makes it, with ``rows`` [B] int64 added."""
        return carrying(*self._beside(samples))


def _of_its_kind(sample: Mapping[Any, Any], entries: dict[Any, Any]) -> Any:
    """A mapping of the sample's own type, and with its other attributes, that has these entries."""
    if type(sample) is dict or not isinstance(sample, MutableMapping):
        return entries
    changed = copy.copy(sample)
    changed.clear()
    changed.update(entries)
    return changed


@cache
def _with_row(kind: Any) -> Any:
    """The named tuple ``kind`` with a field for the row."""

    class Carrying(namedtuple(kind.__name__, (*kind._fields, ROW))):  # type: ignore[misc]  # fields known at run time
        __slots__ = ()
        commentary_of = kind

        def __reduce__(self) -> Any:  # pickle would look for the class by its name
            return carrying, parted(self)

    return Carrying
