"""A table of weights, one row per example of a dataset, optionally with stages over training."""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from commentary_hub.commentaries._base import Batch, Commentary, Stage
from commentary_hub.errors import InputError, ShapeError


@final
class ExampleWeights(Commentary):
    """w(row, i) = sigmoid(logits[row, stage(i)]), in (0, 1).

    ``logits`` is [rows, stages]. With S stages, stage(i) = min(⌊S · i/T⌋, S − 1): a curriculum whose steps have
    equal length. Examples without a row get ``neutral``, by default the table's mean: so an unknown example counts as
    much as a known one does on average. ``initial`` is where the logits start: one number, or a tensor [rows, stages]
    of what is believed already, the log-odds of another tool's scores for instance. One lookup and one sigmoid per
    example and step.

    >>> weights = ExampleWeights(rows=3)
    >>> batch = Batch(torch.zeros(2, 4), torch.tensor([0, 1]), rows=torch.tensor([2, -1]))
    >>> weights(batch, progress=0.0).weights.tolist()
    [0.5, 0.5]
    """

    kind: ClassVar[str] = "example_weights"
    stage: ClassVar[Stage] = Stage.WEIGHT
    row_tensors: ClassVar[tuple[str, ...]] = ("logits",)

    def __init__(
        self, rows: int, *, stages: int = 1, neutral: float | None = None, initial: Tensor | float = 0.0
    ) -> None:
        super().__init__()
        if rows < 0 or stages < 1:
            raise ShapeError(f"a table needs rows >= 0 and stages >= 1, got {rows} and {stages}", tensor="logits")
        if neutral is not None and not 0.0 <= neutral <= 1.0:
            raise InputError(f"neutral is {neutral}: give a weight from 0 to 1, as those in the table are")
        self._neutral = None if neutral is None else float(neutral)
        start = torch.as_tensor(initial, dtype=torch.get_default_dtype()).detach()
        if start.ndim and start.shape != (rows, stages):
            raise ShapeError(
                f"initial has shape {list(start.shape)}: give one number or a tensor [{rows}, {stages}]",
                tensor="initial",
            )
        self.logits = nn.Parameter(start.expand(rows, stages).clone())

    def forward(self, batch: Batch, progress: Tensor | float) -> Batch:
        """Multiply the batch's weights by the table's, ``neutral`` where ``batch.rows`` is -1."""
        if batch.rows is None:
            raise ShapeError(
                "a table of example weights needs batch.rows: bind the commentary to the dataset first",
                tensor="rows",
            )
        stages = self.logits.shape[1]
        stage = min(int(float(progress) * stages), stages - 1)
        known = batch.rows >= 0
        weights = torch.sigmoid(self.logits[batch.rows.clamp_min(0), stage])
        neutral = self._neutral
        if neutral is None and not known.all():  # the mean of a large table is worked out only where it is needed
            neutral = self.neutral
        return batch.weighted(weights if neutral is None else torch.where(known, weights, weights.new_tensor(neutral)))

    @property
    def neutral(self) -> float:
        """The weight of an example without a row."""
        if self._neutral is not None:
            return self._neutral
        return float(self.values().double().mean()) if self.logits.numel() else 0.5

    def values(self) -> Tensor:
        """All weights [rows, stages], detached."""
        return torch.sigmoid(self.logits.detach())

    def config(self) -> dict[str, Any]:
        """Rows, stages and the neutral value."""
        return {"rows": self.logits.shape[0], "stages": self.logits.shape[1], "neutral": self.neutral}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ExampleWeights:
        """Rebuild the table's frame."""
        return cls(rows=int(config["rows"]), stages=int(config["stages"]), neutral=float(config["neutral"]))

    @property
    def value_range(self) -> tuple[float, float]:
        """Weights lie in (0, 1)."""
        return (0.0, 1.0)
