"""For integrations: whatever dataset a trainer holds, bound and carrying rows."""

from __future__ import annotations

from typing import Any

import datasets
from torch.utils.data import IterableDataset, Subset

from commentary_hub.data import ROW
from commentary_hub.errors import InputError
from commentary_hub.reuse._bind import bind
from commentary_hub.reuse._binding import Binding
from commentary_hub.reuse._stored import Stored
from commentary_hub.reuse._stream import StreamBinding, bind_stream

Bound = Binding | StreamBinding

__all__ = ["Bound", "Stored", "bind_any", "rows_attached"]


def bind_any(commentary: Stored | Bound, dataset: Any, **options: Any) -> Bound:
    """A binding as it is, or stored commentaries bound to ``dataset`` as a stream or a map-style dataset."""
    if isinstance(commentary, Bound):
        if options:
            raise InputError(f"{', '.join(options)} cannot be changed after binding: give them to bind")
        return commentary
    if isinstance(dataset, (datasets.IterableDataset, IterableDataset)):
        return bind_stream(commentary, dataset, **options)
    return bind(commentary, dataset, **options)


def rows_attached(binding: Bound, dataset: Any) -> Any:
    """``dataset`` with rows in its samples: where it is what was bound, or where it was made from ``binding.dataset``.

    A dataset that was bound just now has the rows of that binding, whatever column an earlier one left in it.
    """
    if dataset is binding.source:
        return binding.dataset if isinstance(binding, StreamBinding) else binding
    if _carries_rows(binding, dataset) or ROW in _columns(dataset):
        return dataset
    raise InputError(
        f"the training dataset is not the one that was bound and has no column {ROW!r}: make it from binding.dataset "
        "(map, filter and shuffle keep the column), or bind the dataset itself"
    )


def _carries_rows(binding: Bound, dataset: Any) -> bool:
    """Whether the samples are the binding's own, or some of them."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset is binding or (isinstance(binding, Binding) and dataset is binding.dataset)


def _columns(dataset: Any) -> Any:
    """The names of a dataset's columns; a mapped stream does not know them and is asked for its first sample."""
    names = getattr(dataset, "column_names", None)
    if names is None and isinstance(dataset, datasets.IterableDataset):
        names = next(iter(dataset.take(1)), None)
    return names or ()
