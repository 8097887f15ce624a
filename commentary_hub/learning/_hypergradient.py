"""What every method returns, and the protocol that makes a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from commentary_hub.errors import Diverged
from commentary_hub.learning._optimisers import Tensors
from commentary_hub.learning._problem import Problem, State


@dataclass(frozen=True, slots=True)
class Hypergradient:
    """dL_V/dφ, one tensor per tensor of φ, and what came with it.

    ``outer_loss`` is the validation loss after the last inner step, ``state`` the student there, ``inner_steps`` the
    number of student updates that were computed (replays not counted). ``residual`` is how far an implicit method is
    from solving its linear system, ‖v − Hp‖ / ‖v‖; ``None`` for exact methods. ``solution`` is p, for a
    warm start.
    """

    value: Tensors
    outer_loss: float
    state: State
    inner_steps: int
    residual: float | None = None
    solution: Tensors | None = None


class Method(Protocol):
    """A way to a hypergradient; a value that holds its own parameters."""

    @property
    def name(self) -> str:
        """Short description for manifests."""

    def hypergradient(self, problem: Problem, state: State, *, warm: Tensors | None = None) -> Hypergradient:
        """Train from ``state`` over the problem's steps and differentiate the outer loss there in φ."""


def filled(found: tuple[Tensor | None, ...], like: Tensors) -> Tensors:
    """Gradients with zeros where there is no dependence."""
    return tuple(torch.zeros_like(p) if g is None else g for g, p in zip(found, like, strict=True))


def check_loss(loss: Tensor, *, where: str) -> float:
    """The loss as a number; raises `Diverged` with advice when it is not finite."""
    value = float(loss.detach())
    if not torch.isfinite(loss.detach()):
        raise Diverged(f"{where} is {value}: lower the inner learning rate, or clip its gradients (clip_norm=)")
    return value


def check_finite(value: Tensors, *, method: str) -> Tensors:
    """The hypergradient; raises `Diverged` with advice when it is not finite."""
    if not all(bool(torch.isfinite(g).all()) for g in value):
        raise Diverged(
            f"the hypergradient of {method} is not finite: lower the inner learning rate or the number of inner steps, "
            "give Adam an eps_root, or sweep back in float64 (backward_dtype=torch.float64)"
        )
    return value
