"""Means over the last outer steps: the commentary that is kept, and how certain its weights are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from commentary_hub.commentaries import Commentary, ExampleWeights
from commentary_hub.learning._result import statistics_prefix


@dataclass
class Averages:
    """Running sums, in float64, of φ and of example weights from outer step ``first`` on.

    The mean of the last iterates has less of the outer optimiser's noise than the last one (Polyak averaging); the
    variance of a weight says how much it moved with student, initialisation and batches.
    """

    first: int
    count: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, commentaries: Sequence[Commentary], step: int) -> None:
        """Take part of outer step ``step`` (from 1)."""
        if step < self.first:
            return
        self.count += 1
        for at, one in enumerate(commentaries):
            for name, parameter in one.named_parameters():
                self._sum(f"{at}.{name}", parameter.detach())
            if isinstance(one, ExampleWeights):
                weights = one.values().double()
                self._sum(f"{at}:mean", weights)
                self._sum(f"{at}:square", weights.square())

    def _sum(self, key: str, value: Tensor) -> None:
        value = value.double()
        self.sums[key] = self.sums[key] + value if key in self.sums else value.clone()

    @torch.no_grad()
    def apply(self, commentaries: Sequence[Commentary]) -> None:
        """Put the means of φ into the commentaries; without any they keep their last φ."""
        if not self.count:
            return
        for at, one in enumerate(commentaries):
            for name, parameter in one.named_parameters():
                parameter.copy_(self.sums[f"{at}.{name}"] / self.count)

    def statistics(self, commentaries: Sequence[Commentary]) -> dict[str, Tensor]:
        """``mean`` and ``variance`` [rows, stages] float32 of every table's weights, by their names in `Learned`."""
        found = {}
        for at, one in enumerate(commentaries):
            if not isinstance(one, ExampleWeights):
                continue
            prefix = statistics_prefix(commentaries, at)
            if not self.count:  # stopped early, before the window: one value has no variance
                found[f"{prefix}mean"] = one.values().float().cpu()
                continue
            mean = self.sums[f"{at}:mean"] / self.count
            variance = (self.sums[f"{at}:square"] / self.count - mean.square()).clamp_min(0)
            found |= {f"{prefix}mean": mean.float().cpu(), f"{prefix}variance": variance.float().cpu()}
        return found

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {f"average.{key}": value.cpu().clone() for key, value in self.sums.items()}

    def facts(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"count": self.count, "first": self.first}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any], device: torch.device) -> None:
        """From a checkpoint."""
        self.count, self.first = int(facts["count"]), int(facts["first"])
        self.sums = {
            k.removeprefix("average."): t.to(device, copy=True) for k, t in tensors.items() if k.startswith("average.")
        }
