"""Arms: what a student is trained on and how each step is changed; the commentary is one arm, each control another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from commentary_hub.commentaries import Batch, Reduction
from commentary_hub.data import Examples
from commentary_hub.errors import EvidenceError
from commentary_hub.reuse import Binding

Role = Literal["commentary", "control", "competitor"]
COMMENTARY = "commentary"


class StepChange(Protocol):
    """What a commentary does to a batch; `Binding.step` is one."""

    def __call__(self, inputs: Tensor, targets: Tensor, rows: Tensor, progress: float, *, seed: int) -> Batch:
        """Change one batch; ``rows`` [B] are positions in the arm's examples."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """One way of training, to be compared with the others at the same budget.

    ``examples`` are trained on. ``weights`` [N] (or [S, N] for S stages of equal length over the training) multiply
    the examples' losses; ``change`` is the general form, called for each batch. ``reduction`` as in
    `commented_loss`. ``sees`` maps inputs [n, ...] to what the student is shown, in training and in testing alike
    (masks); ``wrap`` puts a module around a fresh student (trained jointly with it). ``smoothing`` is label smoothing's
    ε; ``trimmed`` the share of each batch with the highest losses that is left out. ``variants`` are this arm with
    other settings of its own (a competitor's hyperparameter): the best is chosen together with the learning rate.
    ``role`` tells what the arm is for; ``note`` says in words what it is. Functions (``change``, ``sees``, ``wrap``)
    are told apart by ``mark``, such as the digest of the tensors that they hold: with it kept pieces know their arm.
    """

    name: str
    examples: Examples
    weights: Tensor | None = None
    reduction: Reduction = "mean"
    change: StepChange | None = None
    sees: Callable[[Tensor], Tensor] | None = None
    wrap: Callable[[nn.Module], nn.Module] | None = None
    smoothing: float = 0.0
    trimmed: float = 0.0
    variants: tuple[Arm, ...] = ()
    role: Role = "control"
    note: str = ""
    mark: str = ""

    def __post_init__(self) -> None:
        size = len(self.examples)
        if self.weights is not None:
            if self.change is not None:
                raise EvidenceError(f"arm {self.name!r} has weights and a change: give one of the two", arm=self.name)
            if self.weights.dim() not in {1, 2} or self.weights.shape[-1] != size:
                raise EvidenceError(
                    f"arm {self.name!r} has weights of shape {list(self.weights.shape)}, expected [{size}] or "
                    f"[stages, {size}]: one weight for each of its examples",
                    arm=self.name,
                )
            if not bool(torch.isfinite(self.weights).all()) or float(self.weights.min()) < 0:
                raise EvidenceError(f"arm {self.name!r} has weights that are negative or not finite", arm=self.name)
        if not (0 <= self.smoothing < 1 and 0 <= self.trimmed < 1):
            raise EvidenceError(f"arm {self.name!r}: smoothing and trimmed are shares from 0 to below 1", arm=self.name)

    @property
    def choices(self) -> tuple[Arm, ...]:
        """The arm itself and its variants."""
        return (self, *self.variants)

    def seen(self, inputs: Tensor) -> Tensor:
        """Inputs as the students of this arm are shown them."""
        return inputs if self.sees is None else self.sees(inputs)


def repeats_for(noisy: int, trusted: int, share: float) -> int:
    """How often ``trusted`` examples are repeated so that they are at least ``share`` of the whole (1 or more).

    >>> repeats_for(1247, 50, 0.2), repeats_for(100, 100, 0.2)
    (7, 1)
    """
    if not 0 <= share < 1:
        raise EvidenceError(f"trusted_share is {share}: give a share from 0 to below 1")
    return max(1, -int(-share / (1 - share) * noisy // trusted))


def with_trusted(noisy: Examples, trusted: Examples, share: float) -> Examples:
    """The noisy examples, then the trusted ones, repeated until they are ``share`` of all."""
    return Examples.concatenated(noisy, *[trusted] * repeats_for(len(noisy), len(trusted), share))


def weighted_arm(
    name: str,
    noisy: Examples,
    trusted: Examples | None,
    weights: Tensor,
    *,
    share: float,
    reduction: Reduction = "weight_mean",
    role: Role = "control",
    note: str = "",
) -> Arm:
    """An arm on noisy and trusted examples, the noisy ones weighted by ``weights`` [N] or [S, N].

    The weights are divided by their mean; each trusted example weighs 1, that is, as much as the mean noisy one, so
    that the trusted examples count the same in every arm.
    """
    mean = weights.double().mean(dim=-1, keepdim=True).to(weights.dtype)
    if not bool((mean > 0).all()):
        raise EvidenceError(f"arm {name!r}: the weights are all zero", arm=name)
    both = noisy if trusted is None else with_trusted(noisy, trusted, share)
    ones = weights.new_ones(*weights.shape[:-1], len(both) - len(noisy))
    return Arm(name, both, torch.cat([weights / mean, ones], dim=-1), reduction, role=role, note=note)


def standard_arms(
    noisy: Examples,
    trusted: Examples | None,
    weights: Tensor,
    *,
    share: float = 0.2,
    reduction: Reduction = "weight_mean",
    keep: dict[str, Tensor] | None = None,
    seed: int = 0,
) -> tuple[Arm, ...]:
    """The arms for a commentary that weights examples, ``weights`` [N] for ``noisy``: itself first, then controls.

    ``commentary``; ``none`` (noisy alone, no weights); ``clean_only`` (trusted alone) and ``equal_data`` (noisy and
    trusted, no weights) where there are trusted examples; ``shuffled`` (the weights permuted over the examples);
    ``random`` (weights drawn with replacement from the same values); and for each entry of ``keep`` (name → bool [N]),
    a filter, the competitor that drops the other noisy examples. All but none and clean_only train on the same
    trusted examples beside the noisy ones.
    """
    generator = torch.Generator().manual_seed(seed)
    size = len(noisy)
    order = torch.randperm(size, generator=generator)
    drawn = torch.randint(size, (size,), generator=generator)
    arms = [
        weighted_arm(COMMENTARY, noisy, trusted, weights, share=share, reduction=reduction, role="commentary"),
        Arm("none", noisy, note="the noisy examples, no weights"),
    ]
    if trusted is not None:
        arms.append(Arm("clean_only", trusted, note="the trusted examples alone"))
        arms.append(Arm("equal_data", with_trusted(noisy, trusted, share), note="noisy and trusted, no weights"))
    for name, at, how in (("shuffled", order, "permuted"), ("random", drawn, "redrawn with replacement")):
        note = f"the same weights, {how} over the examples"
        arms.append(weighted_arm(name, noisy, trusted, weights[..., at], share=share, reduction=reduction, note=note))
    return (*arms, *(filtered_arm(name, noisy, trusted, kept, share=share) for name, kept in (keep or {}).items()))


def filtered_arm(name: str, noisy: Examples, trusted: Examples | None, keep: Tensor, *, share: float) -> Arm:
    """Only the noisy examples where ``keep`` (bool [N]), and as many repeats of the trusted as the other arms have."""
    if keep.shape != (len(noisy),) or not bool(keep.any()):
        raise EvidenceError(f"arm {name!r} needs a bool for each of {len(noisy)} examples and to keep one", arm=name)
    kept = noisy.subset(keep)
    note = f"{len(noisy) - len(kept)} of {len(noisy)} noisy examples removed"
    if trusted is not None:
        kept = Examples.concatenated(kept, *[trusted] * repeats_for(len(noisy), len(trusted), share))
    return Arm(name, kept, role="competitor", note=note)


def bound_arm(name: str, examples: Examples, binding: Binding, *, role: Role = "commentary", note: str = "") -> Arm:
    """An arm whose every batch goes through a binding (of ``examples`` in their order); for any kind of commentary."""
    return Arm(name, examples, change=binding.step, reduction=binding.reduction, role=role, note=note)


@dataclass(frozen=True, slots=True)
class Lesson:
    """One step for R seeds at once: inputs [R, B, ...], soft targets [R, B, C], ``scale`` [R] of the summed loss."""

    inputs: Tensor
    targets: Tensor
    scale: Tensor


def minibatches(size: int, batch_size: int, steps: int, seed: int) -> Tensor:
    """Positions [steps, batch_size] int64: passes over all ``size`` examples, each in an order of its own.

    A function of these four numbers alone, so that arms with equally many examples see the same batches.

    >>> minibatches(3, 2, 3, seed=0).sort().values.shape, minibatches(3, 3, 1, seed=0).sort().values.tolist()
    (torch.Size([3, 2]), [[0, 1, 2]])
    """
    generator = torch.Generator().manual_seed(seed)
    passes = -(-steps * batch_size // size)
    order = torch.cat([torch.randperm(size, generator=generator) for _ in range(passes)])
    return order[: steps * batch_size].reshape(steps, batch_size)


class Lessons:
    """The lessons of one arm for R paired seeds, ready on the device: call with the step."""

    def __init__(
        self, arm: Arm, seeds: Sequence[int], *, classes: int, steps: int, batch_size: int, device: torch.device
    ) -> None:
        self._arm = arm
        self._seeds = tuple(seeds)
        self._steps = steps
        self._classes = classes
        self._inputs = arm.seen(arm.examples.inputs).to(device)
        self._targets = arm.examples.targets.to(device)
        self._weights = None if arm.weights is None else arm.weights.reshape(-1, len(arm.examples)).float().to(device)
        size = len(arm.examples)
        self._order = torch.stack([minibatches(size, batch_size, steps, seed) for seed in seeds], 1).to(device)

    @torch.no_grad()
    def __call__(self, step: int) -> Lesson:
        """The lesson of step 0 … steps − 1."""
        rows = self._order[step]
        if self._arm.change is not None:
            return self._changed(rows, step)
        targets = functional.one_hot(self._targets[rows], self._classes).float()
        if self._weights is not None:
            stage = min(step * len(self._weights) // self._steps, len(self._weights) - 1)
            targets = targets * self._weights[stage][rows][..., None]
        return self._lesson(self._inputs[rows], targets)

    def _changed(self, rows: Tensor, step: int) -> Lesson:
        inputs, targets = [], []
        for seed, own in zip(self._seeds, rows, strict=True):
            assert self._arm.change is not None
            partners = seed * self._steps + step
            batch = self._arm.change(
                self._inputs[own], self._targets[own], own, step / self._steps, seed=partners % 2**31
            )
            inputs.append(batch.inputs)
            targets.append(soft_targets(batch, self._classes))
        return self._lesson(torch.stack(inputs), torch.stack(targets))

    def _lesson(self, inputs: Tensor, targets: Tensor) -> Lesson:
        if self._arm.smoothing:
            total = targets.sum(-1, keepdim=True)
            targets = (1 - self._arm.smoothing) * targets + self._arm.smoothing * total / self._classes
        count, size = targets.shape[:2]
        scale = targets.new_ones(count)
        if self._arm.reduction == "mean":
            scale = scale / size
        elif self._arm.reduction == "weight_mean":
            scale = scale / targets.sum((1, 2)).clamp_min(torch.finfo(targets.dtype).tiny)
        return Lesson(inputs, targets, scale)


def soft_targets(batch: Batch, classes: int) -> Tensor:
    """Targets [B, C] whose cross-entropies Σ_c t_c · (−log p_c) are the batch's losses with weights and blend."""
    ones = torch.ones(len(batch.inputs), device=batch.inputs.device)
    weights = ones if batch.weights is None else batch.weights
    own = functional.one_hot(batch.targets, classes)
    if batch.blend is None:
        return weights[:, None] * own
    ratio, partners = batch.blend.ratio, batch.blend.weights
    other = (1 - ratio) * (ones if partners is None else partners)
    return (ratio * weights)[:, None] * own + other[:, None] * functional.one_hot(batch.blend.targets, classes)
