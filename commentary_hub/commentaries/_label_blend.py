"""Blending each example with a partner, in a ratio that depends on the two labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from commentary_hub.commentaries._base import Batch, Blend, Commentary, Stage, check_labels
from commentary_hub.errors import InputError, LabelError


@final
class LabelBlend(Commentary):
    """x̃ = λ x_a + (1 − λ) x_b with λ(y_a, y_b) = 1 − ½ sigmoid(Φ[y_a, y_b]) in (½, 1).

    The partner b of each example is drawn by a permutation of the batch from ``batch.seed``. The loss is mixup's,
    λ ℓ(y_a) + (1 − λ) ℓ(y_b), which `commented_loss` reads from ``batch.blend``. ``logits`` Φ is [classes, classes],
    −1 at first (λ = 0.866); it need not be symmetric: the first label is the one that keeps the larger share.
    Source: Raghu et al. 2021, section 4. Cost: one permutation and one weighted sum of the batch per step.

    >>> blend = LabelBlend(classes=10)
    >>> round(float(blend.ratios()[3, 5]), 3)
    0.866
    """

    kind: ClassVar[str] = "label_blend"
    stage: ClassVar[Stage] = Stage.BLEND

    def __init__(self, classes: int, *, initial: float = -1.0) -> None:
        super().__init__()
        if classes < 1:
            raise InputError(f"classes is {classes}: a blend needs at least one")
        self.logits = nn.Parameter(torch.full((classes, classes), float(initial)))

    @property
    def classes(self) -> int:
        """How many classes it knows."""
        return self.logits.shape[0]

    def forward(self, batch: Batch, progress: Tensor | float) -> Batch:
        """Blend the batch; raises `LabelError` for labels it does not know, `InputError` for what cannot be blended."""
        del progress
        self._check(batch)
        size = len(batch.targets)
        partner = torch.randperm(size, generator=torch.Generator().manual_seed(batch.seed)).to(batch.targets.device)
        targets = batch.targets[partner]
        ratio = 1 - 0.5 * torch.sigmoid(self.logits[batch.targets, targets])
        wide = ratio.reshape(size, *[1] * (batch.inputs.dim() - 1))
        mixed = wide * batch.inputs + (1 - wide) * batch.inputs[partner]
        return replace(
            batch,
            inputs=mixed.to(batch.inputs.dtype),  # the ratios may be more precise than the student is
            blend=Blend(targets, ratio, None if batch.weights is None else batch.weights[partner]),
        )

    def ratios(self) -> Tensor:
        """All λ [classes, classes], detached: row y_a, column y_b."""
        return 1 - 0.5 * torch.sigmoid(self.logits.detach())

    def config(self) -> dict[str, Any]:
        """The number of classes."""
        return {"classes": self.classes}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LabelBlend:
        """Rebuild the table's frame."""
        return cls(classes=int(config["classes"]))

    @property
    def value_range(self) -> tuple[float, float]:
        """Ratios lie in (½, 1)."""
        return (0.5, 1.0)

    def _check(self, batch: Batch) -> None:
        if batch.blend is not None:
            raise InputError("this batch is blended already: bind one blend at a time")
        if batch.targets.dtype != torch.int64 or batch.targets.dim() != 1:
            raise LabelError(
                f"targets are {batch.targets.dtype} {list(batch.targets.shape)}: a blend depends on class indices "
                "[B] of int64",
                tensor="targets",
            )
        if not batch.inputs.is_floating_point():
            raise InputError(
                f"inputs of {batch.inputs.dtype} cannot be blended: give float tensors (pictures after scaling, texts "
                "after embedding)"
            )
        check_labels(batch.targets, self.classes)
