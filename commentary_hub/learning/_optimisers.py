"""Inner optimisers as pure functions: equal to ``torch.optim`` step for step, and differentiable.

An optimiser is a value. It maps (parameters, gradients, state) to new parameters and a new state and changes nothing
in place, so that a training run is a composition of functions that autograd can take apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Protocol

import torch
from torch import Tensor

from commentary_hub.errors import InputError

Tensors = tuple[Tensor, ...]
Schedule = Callable[[int], float]  # inner step (from 0) → factor of the learning rate


class InnerOptimiser(Protocol):
    """One student update as a pure function; its state is a flat tuple of tensors, which can be stored and replayed."""

    @property
    def name(self) -> str:
        """Short description for manifests."""

    @property
    def affine(self) -> bool:
        """Whether a step is affine in the gradients, so that no derivative of it depends on their numbers."""

    @property
    def penalty(self) -> float:
        """λ of the (λ/2)‖θ‖² whose gradient a step adds to those that it is given; 0 where decay is decoupled."""

    def start(self, parameters: Tensors) -> Tensors:
        """The state before the first step."""

    def step(self, parameters: Tensors, gradients: Tensors, state: Tensors, step: int) -> tuple[Tensors, Tensors]:
        """Parameters and state after inner step number ``step`` (from 0)."""


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent as `torch.optim.SGD`, without dampening.

    g ← g + weight_decay·θ; v ← momentum·v + g (v₀ = g₀); θ ← θ − lr·(g + momentum·v if nesterov else v).
    ``clip_norm`` scales all gradients so that their joint norm is at most that (`clip_grad_norm_`). Raises `InputError`
    for a setting without meaning.

    >>> sgd = SGD(lr=0.5)
    >>> sgd.step((torch.ones(1),), (torch.ones(1),), sgd.start((torch.ones(1),)), 0)[0]
    (tensor([0.5000]),)
    """

    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: Schedule | None = None
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        _check(self)
        check_number("momentum", self.momentum, below=1)
        check_flag("nesterov", self.nesterov)
        if self.nesterov and not self.momentum:
            raise InputError("nesterov needs momentum above 0")

    @property
    def name(self) -> str:
        """Short description for manifests."""
        return _named("sgd", self, "momentum", "nesterov", "weight_decay", "clip_norm")

    @property
    def affine(self) -> bool:
        """True, unless gradients are clipped."""
        return self.clip_norm is None

    @property
    def penalty(self) -> float:
        """The weight decay."""
        return self.weight_decay

    def start(self, parameters: Tensors) -> Tensors:
        """One velocity per parameter, or nothing without momentum."""
        return tuple(torch.zeros_like(p) for p in parameters) if self.momentum else ()

    def step(self, parameters: Tensors, gradients: Tensors, state: Tensors, step: int) -> tuple[Tensors, Tensors]:
        """See the class."""
        gradients = _clipped(gradients, self.clip_norm)
        if self.weight_decay:
            gradients = _added(gradients, self.weight_decay, parameters)
        lr = _rate(self.lr, self.schedule, step)
        if not self.momentum:
            return _added(parameters, -lr, gradients), ()
        velocities = _added(gradients, self.momentum, state)
        moves = _added(gradients, self.momentum, velocities) if self.nesterov else velocities
        return _added(parameters, -lr, moves), velocities


@dataclass(frozen=True)
class Adam:
    """Adam as `torch.optim.Adam` (L2 weight decay in the gradient), or AdamW with ``decoupled``.

    m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; θ ← θ − lr · m̂ / (√(v̂ + eps_root) + eps). The derivative of √v is infinite
    at v = 0, where a parameter has never had a gradient: ``eps_root`` > 0 bounds it. With 0 the step equals torch's,
    and the derivative is taken as 0 where v = 0. Raises `InputError` for a setting without meaning.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    eps_root: float = 0.0
    weight_decay: float = 0.0
    decoupled: bool = False
    schedule: Schedule | None = None
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        _check(self)
        check_number("eps", self.eps)
        check_number("eps_root", self.eps_root)
        check_flag("decoupled", self.decoupled)
        if not isinstance(self.betas, Sequence) or len(self.betas) != 2:
            raise InputError(f"betas is {self.betas!r}: give two numbers from 0 to below 1")
        for place, beta in enumerate(self.betas):
            check_number(f"betas[{place}]", beta, below=1)

    @property
    def name(self) -> str:
        """Short description for manifests."""
        name = "adamw" if self.decoupled else "adam"
        return _named(name, self, "betas", "eps", "eps_root", "weight_decay", "clip_norm")

    @property
    def affine(self) -> bool:
        """False: gradients are squared."""
        return False

    @property
    def penalty(self) -> float:
        """The weight decay, where it is in the gradient."""
        return 0.0 if self.decoupled else self.weight_decay

    def start(self, parameters: Tensors) -> Tensors:
        """First moments, then second moments."""
        return tuple(torch.zeros_like(p) for p in (*parameters, *parameters))

    def step(self, parameters: Tensors, gradients: Tensors, state: Tensors, step: int) -> tuple[Tensors, Tensors]:
        """See the class."""
        gradients = _clipped(gradients, self.clip_norm)
        lr = _rate(self.lr, self.schedule, step)
        if self.weight_decay and self.decoupled:
            parameters = tuple(p * (1 - lr * self.weight_decay) for p in parameters)
        elif self.weight_decay:
            gradients = _added(gradients, self.weight_decay, parameters)
        (beta1, beta2), count = self.betas, len(parameters)
        firsts = tuple(torch.lerp(m, g, 1 - beta1) for m, g in zip(state[:count], gradients, strict=True))
        seconds = tuple(
            torch.addcmul(beta2 * v, g, g, value=1 - beta2) for v, g in zip(state[count:], gradients, strict=True)
        )
        size, root = lr / (1 - beta1 ** (step + 1)), (1 - beta2 ** (step + 1)) ** 0.5
        moved = tuple(
            torch.addcdiv(p, m, self._square_root(v, root) + self.eps, value=-size)
            for p, m, v in zip(parameters, firsts, seconds, strict=True)
        )
        return moved, (*firsts, *seconds)

    def _square_root(self, second: Tensor, root: float) -> Tensor:
        if self.eps_root:
            return (second / root**2 + self.eps_root).sqrt()
        # Where v = 0 there was no gradient: held at the least positive number, whose root is nothing beside eps, it
        # has no derivative, which keeps 0 · ∞ out.
        return second.clamp_min(torch.finfo(second.dtype).tiny).sqrt() / root


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, as `torch.optim.AdamW`."""

    weight_decay: float = 0.01
    decoupled: bool = True


def _named(name: str, optimiser: SGD | Adam, *settings: str) -> str:
    """The name with its learning rate, and those ``settings`` that are not as they are when nobody gives them."""
    usual = {one.name: one.default for one in fields(optimiser)}
    given = {setting: getattr(optimiser, setting) for setting in settings}
    said = [f"{n}={v:g}" if isinstance(v, float) else f"{n}={v}" for n, v in given.items() if v != usual[n]]
    return f"{name}({', '.join([f'lr={optimiser.lr:g}', *said])})"


def check_number(name: str, value: object, *, positive: bool = False, below: float = math.inf) -> None:
    """Raise `InputError` unless ``value`` is a finite number from 0 (or above it) to below ``below``."""
    if not isinstance(value, bool) and isinstance(value, Real):
        number = float(value)
        if (number > 0 if positive else number >= 0) and number < below:
            return
    least = "above 0" if positive else "of at least 0"
    said = f"a finite number {least}" if below == math.inf else f"a number {least} and below {below:g}"
    raise InputError(f"{name} is {value!r}: give {said}")


def check_count(name: str, value: object, said: str = "a whole number of at least 1") -> None:
    """Raise `InputError`, asking for what is ``said``, unless ``value`` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
        raise InputError(f"{name} is {value!r}: give {said}")


def check_flag(name: str, value: object) -> None:
    """Raise `InputError` unless ``value`` is True or False: "no" would count as yes."""
    if not isinstance(value, bool):
        raise InputError(f"{name} is {value!r}: give True or False")


def _check(optimiser: SGD | Adam) -> None:
    """What all inner optimisers are set by."""
    check_number("lr", optimiser.lr, positive=True)
    check_number("weight_decay", optimiser.weight_decay)
    if optimiser.clip_norm is not None:
        check_number("clip_norm", optimiser.clip_norm, positive=True)
    if optimiser.schedule is not None and not callable(optimiser.schedule):
        raise InputError(
            f"schedule is {optimiser.schedule!r}: give a function from the inner step to a factor of lr, or None"
        )


def _rate(lr: float, schedule: Schedule | None, step: int) -> float:
    return lr if schedule is None else lr * schedule(step)


def _added(first: Tensors, factor: float, second: Tensors) -> Tensors:
    """Sums with a factor: first + factor · second."""
    return tuple(torch.add(a, b, alpha=factor) for a, b in zip(first, second, strict=True))


def _clipped(gradients: Sequence[Tensor], limit: float | None) -> Tensors:
    if limit is None:
        return tuple(gradients)
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    factor = (limit / (norm + 1e-6)).clamp(max=1.0)
    return tuple(g * factor for g in gradients)
