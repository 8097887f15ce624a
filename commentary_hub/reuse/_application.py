"""Applying commentaries to a training step: the one place where rows become a loss."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor

from commentary_hub.commentaries import (
    AttentionMask,
    Batch,
    Commentary,
    Criterion,
    LabelBlend,
    MixtureWeights,
    Reduction,
    Stage,
    commented_loss,
)
from commentary_hub.errors import InputError

_log = logging.getLogger("commentary_hub.reuse")
_CHUNK = 1 << 20
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _never_compiled(function: _Function) -> _Function:
    """``function``, which ``torch.compile`` leaves out of its graphs.

    They would hold progress and seed, and be made anew for each step until torch gives up on the caller.
    """
    plain: _Function = torch.compiler.disable(function)  # type: ignore[no-untyped-call]  # torch gives no types here
    return plain


class Application:
    """Commentaries in the order of their stages, with the step counter of one training run.

    ``covered`` holds, for each commentary with a table, the rows that stand for the training data (``None``: the whole
    table). Weights are divided by their mean over these rows, so that the mean weight in this training is 1 and the
    learning rate keeps its meaning.

    Progress is i/T: i counts the calls of `loss` in training mode, T are the ``steps`` that the commentary was learned
    over. Past T the value of progress 1 holds, which is logged once where a commentary follows progress at all.
    """

    def __init__(
        self,
        commentaries: Sequence[Commentary],
        covered: Sequence[Tensor | None],
        *,
        reduction: Reduction,
        steps: int | None,
        criterion: Criterion,
        seed: int,
    ) -> None:
        self.commentaries = tuple(commentaries)
        self.reduction = reduction
        self.steps = steps
        self.criterion = criterion
        self.step_count = 0
        self._covered = tuple(covered)
        self._seed = seed
        self._means: dict[tuple[int, int], float] = {}
        self._held = False

    @_never_compiled
    def step(
        self,
        inputs: Tensor,
        targets: Tensor,
        rows: Sequence[Tensor | None],
        progress: float,
        seed: int | None = None,
    ) -> Batch:
        """The batch after all commentaries; ``rows`` [B] for each commentary with a table, -1 where it has none."""
        batch = Batch(inputs, targets, seed=self._seed + self.step_count if seed is None else seed)
        for number, own in enumerate(rows):
            commentary = self._on(number, inputs.device)
            before = batch.weights
            changed = commentary(replace(batch, rows=None if own is None else own.to(inputs.device)), progress)
            if own is not None and changed.weights is not before and changed.blend is None:
                changed = replace(changed, weights=changed.weights / self.mean(number, progress))
            batch = changed
        return batch

    def loss(
        self,
        student: Callable[[Tensor], Any],
        inputs: Tensor,
        targets: Tensor,
        rows: Sequence[Tensor | None],
        progress: float | None,
    ) -> Tensor:
        """The training loss (scalar) of one batch; only calls in training mode are steps.

        The student returns logits, or what holds them (`logits_of`).
        """
        training = is_training(student)
        at = self.progress_at(self.step_count) if progress is None else progress
        batch = self.step(inputs, targets, rows, at)
        self.step_count += training
        outputs = logits_of(student(batch.inputs))
        return commented_loss(outputs, batch, reduction=self.reduction, criterion=self.criterion)

    def progress_at(self, step: int) -> float:
        """i/T in [0, 1] at ``step`` i; 0 where no commentary knows its steps."""
        if self.steps is None:
            return 0.0
        if step > self.steps and not self._held:
            self._held = True
            if any(_follows_progress(commentary) for commentary in self.commentaries):
                _log.warning(
                    "training goes past the %d steps the commentary was learned over: its last value holds", self.steps
                )
        return min(step / self.steps, 1.0)

    def weights_of(self, number: int, rows: Tensor, progress: float) -> Tensor | None:
        """Weights [N] float32 of many rows with mean 1; ``None`` where this commentary has no table of weights."""
        commentary = self.commentaries[number]
        if commentary.stage is not Stage.WEIGHT:
            return None
        mean = self.mean(number, progress)
        return torch.cat([part / mean for part in _looked_up(commentary, rows, progress)])

    @torch.no_grad()
    def mean(self, number: int, progress: float) -> float:
        """The mean weight over the covered rows, for each value of the table's stage computed once."""
        commentary, covered = self.commentaries[number], self._covered[number]
        stages = int(commentary.config().get("stages", 1))
        stage = min(int(progress * stages), stages - 1)
        if (number, stage) not in self._means:
            if covered is None:
                covered = torch.arange(len(commentary.state_dict()[commentary.row_tensors[0]]))
            total, count = 0.0, 0
            if commentary.stage is Stage.WEIGHT:
                for part in _looked_up(commentary, covered[covered >= 0], progress):
                    total, count = total + float(part.double().sum()), count + len(part)
            self._means[number, stage] = total / count if count and total > 0 else 1.0
        return self._means[number, stage]

    def _on(self, number: int, device: torch.device) -> Commentary:
        """The commentary on the batch's device; the stored one is left where it is."""
        commentary = self.commentaries[number]
        tensor = next(chain(commentary.parameters(), commentary.buffers()), None)
        if tensor is None or tensor.device == device:
            return commentary
        moved = copy.deepcopy(commentary).to(device)
        self.commentaries = (*self.commentaries[:number], moved, *self.commentaries[number + 1 :])
        return moved


def _follows_progress(commentary: Commentary) -> bool:
    """Whether what it says may change over training, as every kind may that does not say otherwise."""
    if isinstance(commentary, (AttentionMask, LabelBlend, MixtureWeights)):
        return False
    try:
        config = commentary.config()
    except (InputError, NotImplementedError):  # a module of the caller's own, which has no settings to name
        return True
    return bool(config.get("stages") != 1 and config.get("progress", True))


def is_training(student: Callable[[Tensor], Any]) -> bool:
    """Whether a loss that is taken now is a step of training."""
    return torch.is_grad_enabled() and bool(getattr(student, "training", True))


def logits_of(outputs: Any) -> Tensor:
    """The logits that a student returned: a tensor as it is, or the entry ``logits`` of what Hugging Face models give.

    Raises `InputError` for anything else.
    """
    found = outputs.get("logits") if isinstance(outputs, Mapping) else outputs
    if isinstance(found, Tensor):
        return found
    names = f" of {', '.join(map(str, outputs)) or 'nothing'}" if isinstance(outputs, Mapping) else ""
    raise InputError(
        f"the student returned a {type(outputs).__name__}{names}, expected logits (a tensor, or a mapping with a "
        "tensor logits): give a function that picks them out of it as the student"
    )


def _looked_up(commentary: Commentary, rows: Tensor, progress: float) -> Iterator[Tensor]:
    """What a table of weights says of many rows, a chunk at a time: memory stays bounded for any table."""
    device = next(chain(commentary.parameters(), commentary.buffers())).device
    for part in torch.split(rows, _CHUNK):
        batch = Batch(
            torch.empty(len(part), 0, device=device), torch.zeros_like(part, device=device), rows=part.to(device)
        )
        weights = commentary(batch, progress).weights
        yield weights.float().cpu()
