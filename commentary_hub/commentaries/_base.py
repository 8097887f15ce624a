"""What a commentary is: a module that changes one training step.

A commentary maps a `Batch` to a `Batch`: it may weight the examples, mask the inputs, or blend each example with a
partner. Composition is therefore function composition, in the fixed order of `Stage`, and one loss function,
`commented_loss`, reads what all of them left in the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from commentary_hub.commentaries._criteria import Criterion, cross_entropy
from commentary_hub.errors import LabelError, ShapeError

Reduction = Literal["sum", "mean", "weight_mean"]


class Stage(IntEnum):
    """When in a training step a commentary acts; composition follows this order, whatever order was given.

    Weights come first because they judge the example as the dataset holds it; masks come before blends so that each
    picture is masked by its own mask before it is mixed with another.
    """

    WEIGHT = 0
    MASK = 1
    BLEND = 2


@dataclass(frozen=True, slots=True)
class Blend:
    """Each example's partner in a blended batch.

    ``targets`` [B] are the partners' targets, ``ratio`` [B] is λ, the share of the example itself, ``weights`` [B]
    the partners' weights where the batch is weighted.
    """

    targets: Tensor
    ratio: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """One training batch on its way to the student.

    ``inputs`` [B, ...]; ``targets`` [B] (class indices int64, or floats for regression); ``rows`` [B] int64, the rows
    of the examples in the commentary's table, -1 where an example has none; ``weights`` [B] or ``None`` for 1;
    ``blend`` or ``None``; ``seed`` makes everything random in a step (the partners) a function of the step.
    """

    inputs: Tensor
    targets: Tensor
    rows: Tensor | None = None
    weights: Tensor | None = None
    blend: Blend | None = None
    seed: int = 0

    def weighted(self, weights: Tensor) -> Batch:
        """The same batch with its weights multiplied by ``weights`` [B]; raises `ShapeError` for any other shape."""
        size = self.inputs.shape[0]
        if weights.shape != (size,):
            raise ShapeError(
                f"example weights have shape {list(weights.shape)}, expected [{size}]: "
                "one number per example, or losses broadcast to a matrix",
                tensor="weights",
                shape=tuple(weights.shape),
            )
        return replace(self, weights=weights if self.weights is None else self.weights * weights)


class Commentary(nn.Module, ABC):
    """Learned meta-information t(x, y, i; φ). Every kind is a final subclass in a file of its own.

    A subclass states ``kind`` (its name in manifests), ``stage``, and implements `forward`, `config` and
    `from_config`. Its learned numbers φ are its ``nn.Parameter`` s; ``row_tensors`` names those state tensors whose
    first axis runs over the dataset's examples, so that saving can sort them by content key and binding can pick rows.
    A kind that also changes what a trained student sees (a mask) states ``at_inference``: it acts in validation too.
    """

    kind: ClassVar[str]
    stage: ClassVar[Stage]
    row_tensors: ClassVar[tuple[str, ...]] = ()
    at_inference: ClassVar[bool] = False

    @abstractmethod
    def forward(self, batch: Batch, progress: Tensor | float) -> Batch:
        """Change one training step; ``progress`` = i/T in [0, 1] (values above 1 are held at 1)."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON values that, given to `from_config`, rebuild this module but for its tensors."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: dict[str, Any]) -> Commentary:
        """The module that `config` describes, with fresh tensors."""

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Bounds of what this commentary puts out (weights, ratios, mask values), where there are any."""
        return None

    @property
    def classes(self) -> int | None:
        """How many classes this commentary knows, where it looks at labels: those of the dataset, or it is refused."""
        return None


def compose(commentaries: Iterable[Commentary]) -> tuple[Commentary, ...]:
    """The commentaries in the order in which they act in a step (stable within one `Stage`)."""
    return tuple(sorted(commentaries, key=lambda commentary: commentary.stage))


def commented_loss(
    outputs: Tensor, batch: Batch, *, reduction: Reduction, criterion: Criterion = cross_entropy
) -> Tensor:
    """The training loss of a batch under its commentaries, a scalar.

    With example weights w (1 where there are none) and per-example losses ℓ: ``sum`` Σ w ℓ; ``mean`` (1/B) Σ w ℓ;
    ``weight_mean`` Σ w ℓ / Σ w, the denominator detached, so that weights set proportions and not the learning rate.
    In a blended batch w ℓ stands for λ w_a ℓ(y_a) + (1 − λ) w_b ℓ(y_b), w in the denominator for λ w_a + (1 − λ) w_b.

    >>> outputs, targets = torch.zeros(2, 4), torch.tensor([0, 1])
    >>> batch = Batch(inputs=outputs, targets=targets, weights=torch.tensor([1.0, 0.0]))
    >>> round(commented_loss(outputs, batch, reduction="sum").item(), 4)
    1.3863
    """
    losses = _per_example(outputs, batch.targets, criterion)
    weights = batch.weights
    if batch.blend is not None:
        ratio = batch.blend.ratio
        partner = _per_example(outputs, batch.blend.targets, criterion)
        if weights is None:
            losses = ratio * losses + (1 - ratio) * partner
        else:
            partner_weights = batch.blend.weights if batch.blend.weights is not None else torch.ones_like(weights)
            losses = ratio * weights * losses + (1 - ratio) * partner_weights * partner
            weights = ratio * weights + (1 - ratio) * partner_weights
    elif weights is not None:
        losses = weights * losses
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean" or weights is None:
        return losses.mean()
    return losses.sum() / weights.detach().sum().clamp_min(torch.finfo(losses.dtype).tiny)


def _per_example(outputs: Tensor, targets: Tensor, criterion: Criterion) -> Tensor:
    losses = criterion(outputs, targets)
    if losses.shape != (outputs.shape[0],):
        raise ShapeError(
            f"the criterion returned shape {list(losses.shape)} for {outputs.shape[0]} examples: "
            "it must return one loss per example (reduction='none')",
            tensor="losses",
            shape=tuple(losses.shape),
        )
    return losses


def check_labels(targets: Tensor, classes: int, *, name: str = "targets") -> None:
    """Raise `LabelError` unless all class indices lie in 0 … classes − 1."""
    if targets.numel() and (int(targets.min()) < 0 or int(targets.max()) >= classes):
        raise LabelError(
            f"{name} hold labels from {int(targets.min())} to {int(targets.max())}, "
            f"but there are {classes} classes (0 to {classes - 1}): map the labels first",
            tensor=name,
            classes=classes,
        )
