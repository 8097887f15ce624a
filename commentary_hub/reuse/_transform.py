"""Commentaries as a transform or a collate function: the batch carries everything, the loop stays as it is."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import default_collate
from torchvision.transforms import v2

from commentary_hub.commentaries import Batch, check_labels
from commentary_hub.errors import InputError
from commentary_hub.reuse._samples import Collate, parted


class Step(Protocol):
    """`Binding.step`."""

    def __call__(self, inputs: Tensor, targets: Tensor, rows: Tensor, progress: float, *, seed: int | None) -> Batch:
        """One batch under its commentaries."""
        ...


class CommentaryTransform(v2.Transform):  # type: ignore[misc]  # torchvision ships no types
    """(inputs [B, …], targets [B], rows [B]) → (inputs, soft targets [B, C] float32), at a fixed ``progress``.

    A soft target is λ w_a onehot(y_a) + (1 − λ) w_b onehot(y_b): cross-entropy is linear in its target, so
    ``functional.cross_entropy(student(inputs), soft)`` equals the binding's own loss with ``reduction="mean"``. As
    ``v2.MixUp`` it acts on batches, after collating, with inputs as float tensors. Workers do not see the training
    step, so partners are drawn by torch's global generator and ``progress`` stays where it is set.
    """

    def __init__(self, step: Step, classes: int, *, progress: float = 0.0) -> None:
        super().__init__()
        self.classes = classes
        self.progress = progress
        self._step = step

    @torch.no_grad()
    def forward(self, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the commentaries to one batch; raises `InputError` for one without rows."""
        if len(batch) != 3:  # inputs, targets and rows
            raise InputError(
                f"a batch has {len(batch)} parts, expected (inputs, targets, rows): let the loader read the binding, "
                "whose batches carry rows, and not the dataset that was bound"
            )
        inputs, targets, rows = batch
        check_labels(targets, self.classes)
        seed = int(torch.randint(2**31, ()))
        changed = self._step(inputs, targets, rows, self.progress, seed=seed)
        ones = torch.ones(len(inputs), device=inputs.device)
        weights = ones if changed.weights is None else changed.weights
        if changed.blend is None:
            return changed.inputs, weights[:, None] * functional.one_hot(targets, self.classes)
        ratio, partners = changed.blend.ratio, changed.blend.weights
        own = (ratio * weights)[:, None] * functional.one_hot(targets, self.classes)
        other = ((1 - ratio) * (ones if partners is None else partners))[:, None]
        return changed.inputs, own + other * functional.one_hot(changed.blend.targets, self.classes)


class CommentaryCollate:
    """Samples of a binding → (inputs, soft targets [B, C]); ``collate`` makes (inputs, targets) of samples first."""

    def __init__(self, transform: CommentaryTransform, collate: Collate | None = None) -> None:
        self.transform = transform
        self._collate = collate or default_collate

    def __call__(self, samples: list[Any]) -> tuple[Tensor, Tensor]:
        """One batch."""
        pairs = [parted(sample) for sample in samples]
        batch = self._collate([sample for sample, _ in pairs])
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise InputError(
                f"collating gave a {type(batch).__name__}, expected (inputs, targets): let the loader read the "
                "binding, whose samples carry rows, and give a function that makes these two of yours (collate=)"
            )
        inputs, targets = batch
        changed: tuple[Tensor, Tensor] = self.transform(inputs, targets, torch.as_tensor([row for _, row in pairs]))
        return changed
