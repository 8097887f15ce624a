"""Applying stored commentaries to a training run: the loss, the weights, and views for data tools."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Subset, WeightedRandomSampler

from commentary_hub.commentaries import Batch, Commentary, Criterion, Reduction, commented_loss, cross_entropy
from commentary_hub.errors import InputError

ROW = "commentary_row"
_log = logging.getLogger("commentary_hub.reuse")


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


class _WithRows(Dataset[Any]):
    """A map-style dataset whose samples carry their row: (x, y) becomes (x, y, row), a dictionary gains an entry."""

    def __init__(self, dataset: Any, rows: NDArray[np.int64]) -> None:
        self.dataset = dataset
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return _carrying(self.dataset[index], int(self.rows[index]))


class Binding(Dataset[Any]):
    """One or more commentaries bound to a dataset; itself a map-style dataset whose samples carry their rows.

    ``rows`` int64 [N] is the dataset's index → table row (-1 for none) and ``counts`` says how the examples met the
    first commentary's table. Batches carry dataset *positions*, so that several tables can be looked up at once: each
    commentary sees its own rows. Progress i/T counts calls of `loss`; T are the steps the first commentary that knows
    was learned over. Past T the value of progress 1 holds, which is logged once.

    Weights are divided by their mean over the examples found, so that the mean weight in this training is 1 and the
    learning rate keeps its meaning.
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
        self.commentaries = tuple(commentaries)
        self.rows = next((table for table in rows if table is not None), None)
        self.counts = counts
        self.reduction = reduction
        self.steps = steps
        self.step_count = 0
        self._dataset = dataset
        self._criterion = criterion
        self._seed = seed
        self._tables = tuple(None if table is None else torch.from_numpy(table) for table in rows)
        self._means: dict[tuple[int, int], float] = {}
        self._held = False

    @property
    def dataset(self) -> Any:
        """The dataset with positions attached: a Hugging Face dataset gains a column, others a last element."""
        positions = np.arange(len(self._dataset))
        if isinstance(self._dataset, datasets.Dataset):
            return self._dataset.add_column(ROW, positions)
        return _WithRows(self._dataset, positions)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        return _carrying(self._dataset[index], int(index))

    def step(self, inputs: Tensor, targets: Tensor, rows: Tensor, progress: float) -> Batch:
        """The batch after all commentaries, in the fixed order of their stages; weights have mean 1."""
        batch = Batch(inputs, targets, seed=self._seed + self.step_count)
        for number, (commentary, table) in enumerate(zip(self.commentaries, self._tables, strict=True)):
            own = None if table is None else table[rows.cpu()].to(inputs.device)
            before = batch.weights
            changed = commentary(replace(batch, rows=own), progress)
            if table is not None and changed.weights is not before and changed.blend is None:
                changed = replace(changed, weights=changed.weights / self._mean(number, progress))
            batch = changed
        return batch

    def loss(
        self,
        student: Callable[[Tensor], Tensor],
        inputs: Tensor,
        targets: Tensor,
        rows: Tensor,
        *,
        progress: float | None = None,
    ) -> Tensor:
        """The training loss (scalar) of one batch; runs the student on the inputs as the commentaries change them."""
        batch = self.step(inputs, targets, rows, self._progress() if progress is None else progress)
        self.step_count += 1
        return commented_loss(student(batch.inputs), batch, reduction=self.reduction, criterion=self._criterion)

    @torch.no_grad()
    def weights(self, progress: float = 0.0) -> Tensor:
        """The weight of every example [N] float32 at ``progress``, mean 1 over the examples found."""
        total = torch.ones(len(self))
        any_table = False
        for number, (commentary, table) in enumerate(zip(self.commentaries, self._tables, strict=True)):
            if table is None:
                continue
            weighted = _looked_up(commentary, table, progress)
            if weighted is not None:
                total = total * weighted / self._mean(number, progress)
                any_table = True
        if not any_table:
            raise InputError("none of the bound commentaries has a table of weights: there is no weight per example")
        return total

    def column(self, name: str = "weight", progress: float = 0.0) -> datasets.Dataset:
        """The Hugging Face dataset with the weights as a column; ``.to_parquet`` writes it."""
        if not isinstance(self._dataset, datasets.Dataset):
            raise InputError("only a Hugging Face Dataset has columns: bind one, or use weights()")
        return self._dataset.add_column(name, self.weights(progress).numpy())

    def sampler(self, samples: int | None = None, *, seed: int = 0) -> WeightedRandomSampler:
        """Draws examples with replacement in proportion to their weights, ``samples`` (default N) an epoch."""
        generator = torch.Generator().manual_seed(seed)
        return WeightedRandomSampler(self.weights().double().tolist(), samples or len(self), generator=generator)

    def filter(self, top: float) -> Any:
        """The share ``top`` (0 to 1] of the examples with the highest weights, in the dataset's order."""
        if not 0 < top <= 1:
            raise InputError(f"top is {top}: give the share to keep, above 0 and at most 1")
        keep = max(1, round(top * len(self)))
        chosen = sorted(torch.topk(self.weights(), keep).indices.tolist())
        if isinstance(self._dataset, datasets.Dataset):
            return self._dataset.select(chosen)
        return Subset(self._dataset, chosen)

    def _progress(self) -> float:
        if self.steps is None:
            return 0.0
        if self.step_count > self.steps and not self._held:
            self._held = True
            _log.warning(
                "training goes past the %d steps the commentary was learned over: its last value holds", self.steps
            )
        return min(self.step_count / self.steps, 1.0)

    @torch.no_grad()
    def _mean(self, number: int, progress: float) -> float:
        """The mean weight over the examples found, for each value of the table's stage computed once."""
        commentary, table = self.commentaries[number], self._tables[number]
        stages = int(commentary.config().get("stages", 1))
        stage = min(int(progress * stages), stages - 1)
        if (number, stage) not in self._means:
            assert table is not None
            weights = _looked_up(commentary, table[table >= 0], progress)
            mean = 1.0 if weights is None or not len(weights) else float(weights.double().mean())
            self._means[number, stage] = mean if mean > 0 else 1.0
        return self._means[number, stage]


def _carrying(sample: Any, row: int) -> Any:
    """The sample with its row: an entry of a dictionary, else the last element of a tuple."""
    if isinstance(sample, Mapping):
        return {**sample, ROW: row}
    return (*sample, row) if isinstance(sample, (tuple, list)) else (sample, row)


def _looked_up(commentary: Commentary, table: Tensor, progress: float) -> Tensor | None:
    """What a table of weights says of many rows [N]; ``None`` where it says nothing about weights."""
    empty = torch.empty(len(table), 0)
    batch: Batch = commentary(Batch(empty, torch.zeros(len(table), dtype=torch.int64), rows=table), progress)
    return batch.weights
