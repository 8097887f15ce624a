"""A commentary bound to a map-style dataset: the loss, the weights, and views for data tools."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Subset, WeightedRandomSampler

from commentary_hub.commentaries import Batch, Commentary, Criterion, Reduction, cross_entropy
from commentary_hub.data import ROW, Wrapping
from commentary_hub.errors import InputError
from commentary_hub.reuse._application import Application
from commentary_hub.reuse._samples import Collate, carrying
from commentary_hub.reuse._transform import CommentaryCollate, CommentaryTransform

_MOST_DRAWN = 1 << 24


@dataclass(frozen=True, slots=True)
class Counts:
    """How a dataset's examples met a commentary; ``found + missing + other_target`` is the dataset's size.

    ``other_target`` examples are known under another label and get the neutral value, as ``missing`` ones do;
    ``leaked`` are examples that taught the commentary (validation examples), where accuracy must not be reported.
    """

    found: int
    missing: int
    other_target: int
    leaked: int


class WithRows(Wrapping, Dataset[Any]):
    """A map-style dataset whose samples carry their position: (x, y) becomes (x, y, i), a dictionary gains an entry.

    ``source`` is the dataset itself, as it was.
    """

    def __init__(self, source: Any) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        return carrying(self.source[index], int(index))

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        fetch = getattr(self.source, "__getitems__", None)  # torch's own protocol for reading a batch at once
        samples = fetch(indices) if fetch is not None else [self.source[index] for index in indices]
        return [carrying(sample, int(index)) for sample, index in zip(samples, indices, strict=True)]


class Binding(WithRows):
    """One or more commentaries bound to a dataset; itself a map-style dataset whose samples carry their positions.

    A sample (x, y) becomes (x, y, position); a dictionary, as Hugging Face datasets give them, gains the entry
    ``commentary_row``: ``loss(student, batch["image"], batch["label"], batch["commentary_row"])``.

    ``rows`` int64 [N] is the dataset's index → table row (-1 for none) and ``counts`` says how the examples met the
    first commentary's table. Batches carry dataset *positions*, so that several tables can be looked up at once: each
    commentary sees its own rows, in the fixed order of stages (weights, masks, blends). Progress i/T counts calls of
    `loss` in training mode; T are the steps the first commentary that knows was learned over. Past T the value of
    progress 1 holds, which is logged once where it matters.

    Weights are divided by their mean over the examples found, so that the mean weight in this training is 1 and the
    learning rate keeps its meaning.

    ``source`` is the dataset that was bound, as it was. Positions are those in it: of two datasets that are trained on
    together, bind the ``ConcatDataset``; a ``ConcatDataset`` of two bindings has every position twice.
    """

    def __init__(
        self,
        dataset: Any,
        commentaries: Sequence[Commentary],
        rows: Sequence[NDArray[np.int64] | None],
        *,
        counts: Counts,
        reduction: Reduction,
        steps: int | None,
        criterion: Criterion = cross_entropy,
        seed: int = 0,
    ) -> None:
        super().__init__(dataset)
        self.rows = next((table for table in rows if table is not None), None)
        self.counts = counts
        self._tables = tuple(None if table is None else torch.from_numpy(table) for table in rows)
        self.application = Application(
            commentaries, self._tables, reduction=reduction, steps=steps, criterion=criterion, seed=seed
        )

    def __repr__(self) -> str:
        """Which kinds are bound to how many examples, and how these met the table; no tensors."""
        kinds = ", ".join(commentary.kind for commentary in self.commentaries)
        return f"Binding({kinds} on {len(self):,} examples, {self.counts})"

    @property
    def commentaries(self) -> tuple[Commentary, ...]:
        """The commentaries in the order in which they act."""
        return self.application.commentaries

    @property
    def reduction(self) -> Reduction:
        """How weighted losses become one number."""
        return self.application.reduction

    @property
    def steps(self) -> int | None:
        """T, the steps that progress runs over; ``None`` where no commentary knows."""
        return self.application.steps

    @property
    def step_count(self) -> int:
        """i, the training steps taken so far; may be set when a training run is resumed."""
        return self.application.step_count

    @step_count.setter
    def step_count(self, steps: int) -> None:
        self.application.step_count = steps

    @cached_property
    def dataset(self) -> Any:
        """The dataset with positions attached: a Hugging Face dataset gains the column ``commentary_row``.

        Samples of others gain a last element, or an entry of that name.

        The column stays with its example through ``map``, ``filter``, ``shuffle`` and tokenising, so that everything
        can be done to the dataset after binding that was done before.
        """
        if isinstance(self.source, datasets.Dataset):
            earlier = [ROW] if ROW in self.source.column_names else []  # another binding's
            return self.source.remove_columns(earlier).add_column(ROW, np.arange(len(self.source)))
        return WithRows(self.source)

    def progress_at(self, step: int) -> float:
        """i/T in [0, 1] at training step ``step``; 0 where no commentary knows its steps."""
        return self.application.progress_at(step)

    def step(self, inputs: Tensor, targets: Tensor, rows: Tensor, progress: float, *, seed: int | None = None) -> Batch:
        """The batch after all commentaries, in the fixed order of their stages; weights have mean 1.

        ``seed`` draws the partners of blends; by default it follows the step.
        """
        return self.application.step(inputs, targets, self._rows_of(rows), progress, seed)

    def loss(
        self,
        student: Callable[[Tensor], Any],
        inputs: Tensor,
        targets: Tensor,
        rows: Tensor,
        *,
        progress: float | None = None,
    ) -> Tensor:
        """The training loss (scalar) of one batch; runs the student on the inputs as the commentaries change them.

        Calls without gradients, or with a student in evaluation mode, are no training steps and leave i alone.
        """
        return self.application.loss(student, inputs, targets, self._rows_of(rows), progress)

    @torch.no_grad()
    def weights(self, progress: float = 0.0) -> Tensor:
        """The weight of every example [N] float32 at ``progress``, mean 1 over the examples found."""
        total: Tensor | None = None
        for number, table in enumerate(self._tables):
            own = None if table is None else self.application.weights_of(number, table, progress)
            if own is not None:
                total = own if total is None else total * own
        if total is None:
            raise InputError("none of the bound commentaries has a table of weights: there is no weight per example")
        return total

    def column(self, name: str = "weight", progress: float = 0.0) -> datasets.Dataset:
        """The Hugging Face dataset with the weights as a column; ``.to_parquet`` writes it."""
        if not isinstance(self.source, datasets.Dataset):
            raise InputError("only a Hugging Face Dataset has columns: bind one, or use weights() or export()")
        if name in self.source.column_names:
            raise InputError(f"the dataset has a column {name!r} already: choose another name")
        return self.source.add_column(name, self.weights(progress).numpy())

    def export(self, path: str | os.PathLike[str], *, progress: float = 0.0) -> None:
        """Write a table (``.parquet`` or ``.csv``) with a line per example, in the dataset's order.

        Columns: ``position`` int64; ``row`` int64, the row in the first commentary's table, -1 for none; ``found``
        bool; ``weight`` float32, the mean over the examples found is 1.
        """
        table = pa.table(
            {
                "position": np.arange(len(self)),
                "row": np.full(len(self), -1) if self.rows is None else self.rows,
                "found": np.zeros(len(self), bool) if self.rows is None else self.rows >= 0,
                "weight": self.weights(progress).numpy(),
            }
        )
        writers = {".parquet": pyarrow.parquet.write_table, ".csv": pyarrow.csv.write_csv}
        suffix = Path(path).suffix.lower()
        if suffix not in writers:
            raise InputError(f"{path} is none of {', '.join(writers)}: choose one of these endings")
        writers[suffix](table, os.fspath(path))

    def sampler(self, samples: int | None = None, *, seed: int = 0) -> WeightedRandomSampler:
        """Draws examples with replacement in proportion to their weights, ``samples`` (default N) an epoch.

        torch draws among at most 2²⁴ examples: raises `InputError` for more.
        """
        if len(self) > _MOST_DRAWN:
            raise InputError(
                f"torch draws among at most {_MOST_DRAWN:,} examples, these are {len(self):,}: use filter, or the "
                "weights in the loss"
            )
        generator = torch.Generator().manual_seed(seed)
        return WeightedRandomSampler(self.weights().double().tolist(), samples or len(self), generator=generator)

    def filter(self, top: float) -> Any:
        """The share ``top`` (0 to 1] of the examples with the highest weights, in the dataset's order."""
        if not 0 < top <= 1:
            raise InputError(f"top is {top}: give the share to keep, above 0 and at most 1")
        keep = max(1, round(top * len(self)))
        chosen = sorted(torch.topk(self.weights(), keep).indices.tolist())
        if isinstance(self.source, datasets.Dataset):
            return self.source.select(chosen)
        return Subset(self.source, chosen)

    def transform(self, classes: int, *, progress: float = 0.0) -> CommentaryTransform:
        """A torchvision v2 transform of whole batches, as ``v2.MixUp`` is one; see `CommentaryTransform`."""
        return CommentaryTransform(self.step, classes, progress=progress)

    def collate(self, classes: int, *, progress: float = 0.0, collate: Collate | None = None) -> CommentaryCollate:
        """A collate function whose batches are (inputs, soft targets): any loop reuses the commentary unchanged."""
        return CommentaryCollate(self.transform(classes, progress=progress), collate)

    def _rows_of(self, positions: Tensor) -> tuple[Tensor | None, ...]:
        at = positions.cpu()
        if at.numel() and not 0 <= int(at.min()) <= int(at.max()) < len(self):
            raise InputError(
                f"rows run from {int(at.min())} to {int(at.max())}, the dataset has {len(self):,} examples: give the "
                "positions that the binding's own batches carry"
            )
        return tuple(None if table is None else table[at] for table in self._tables)
