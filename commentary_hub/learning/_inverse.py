"""Inverse-Hessian-vector products p ≈ H⁻¹ v from Hessian-vector products alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from commentary_hub.errors import Diverged, InputError
from commentary_hub.learning._optimisers import Tensors

Product = Callable[[Tensors], Tensors]  # p → H p


class Inverse(Protocol):
    """A way to apply an inverse Hessian."""

    @property
    def name(self) -> str:
        """Short description for manifests."""

    def solve(self, product: Product, vector: Tensors, start: Tensors | None) -> tuple[Tensors, float]:
        """P ≈ H⁻¹ ``vector`` and the relative residual ‖v − H p‖ / ‖v‖; ``start`` is a guess at p."""


@dataclass(frozen=True)
class Neumann:
    """The truncated series p = scale · Σ_{k=0}^{terms−1} (I − scale·H)^k v.

    Converges to H⁻¹v for 0 < scale < 2/λ_max(H) with H positive definite; with few terms it is a damped inverse that
    forgets directions of small curvature. With scale = the inner learning rate, ``terms`` = k equals unrolling the last
    k SGD steps at a converged student. Cost: ``terms`` products (the last one gives the residual). Raises `Diverged`
    when terms grow. Source: Lorraine et al. 2020.
    """

    terms: int = 3
    scale: float = 0.1

    def __post_init__(self) -> None:
        if self.terms < 1 or self.scale <= 0:
            raise InputError(f"terms is {self.terms}, scale {self.scale}: give at least one term and a scale above 0")

    @property
    def name(self) -> str:
        """Short description for manifests."""
        return f"Neumann(terms={self.terms}, scale={self.scale:g})"

    def solve(self, product: Product, vector: Tensors, start: Tensors | None) -> tuple[Tensors, float]:
        """Sum the series; with ``start`` p₀ it is summed for the remainder, p₀ + series(v − H p₀)."""
        size = _norm(vector)
        if size == 0:
            return vector, 0.0
        rest = vector if start is None else _combine(vector, -1.0, product(start))
        total = None if start is None else start
        first = _norm(rest)
        for _ in range(self.terms):
            step = tuple(self.scale * r for r in rest)
            total = step if total is None else _combine(total, 1.0, step)
            rest = _combine(rest, -self.scale, product(rest))
            norm = _norm(rest)
            if not norm < 1e3 * max(first, 1e-30):
                raise Diverged(
                    f"the Neumann series diverges: a term grew from {first:.2e} to {norm:.2e}; scale={self.scale:g} "
                    "must be below 2/λmax of the inner Hessian, about the inner learning rate",
                    residual=norm / size,
                )
        assert total is not None
        return total, _norm(rest) / size


@dataclass(frozen=True)
class ConjugateGradient:
    """Conjugate gradients on (H + damping·I) p = v, at most ``steps`` iterations.

    Exact after dim(θ) steps for positive definite H; ``damping`` > 0 is needed where H is singular or indefinite, as
    those of networks are. Raises `Diverged` where a direction of negative curvature is met.
    """

    steps: int = 10
    damping: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.damping < 0:
            raise InputError(f"steps is {self.steps}, damping {self.damping}: give at least 1 and at least 0")

    @property
    def name(self) -> str:
        """Short description for manifests."""
        return f"ConjugateGradient(steps={self.steps}, damping={self.damping:g})"

    def solve(self, product: Product, vector: Tensors, start: Tensors | None) -> tuple[Tensors, float]:
        """Iterate from ``start`` (default 0)."""

        def damped(p: Tensors) -> Tensors:
            return _combine(product(p), self.damping, p)

        size = _norm(vector)
        if size == 0:
            return vector, 0.0
        solution = tuple(torch.zeros_like(v) for v in vector) if start is None else start
        rest = vector if start is None else _combine(vector, -1.0, damped(start))
        direction, square = rest, _dot(rest, rest)
        for _ in range(self.steps):
            if square**0.5 <= 1e-12 * size:
                break
            curved = damped(direction)
            curvature = _dot(direction, curved)
            if curvature <= 0:
                raise Diverged(
                    f"conjugate gradients met curvature {curvature:.2e}: the inner Hessian is not positive definite "
                    f"here; raise damping (now {self.damping:g}) or train the student longer",
                    residual=square**0.5 / size,
                )
            length = square / curvature
            solution, rest = _combine(solution, length, direction), _combine(rest, -length, curved)
            before, square = square, _dot(rest, rest)
            direction = _combine(rest, square / before, direction)
        return solution, square**0.5 / size


@dataclass(frozen=True)
class Identity:
    """p = scale·v: one step looked back, no products, so the residual is not measured and reported as 1."""

    scale: float = 1.0

    @property
    def name(self) -> str:
        """Short description for manifests."""
        return f"Identity(scale={self.scale:g})"

    def solve(self, product: Product, vector: Tensors, start: Tensors | None) -> tuple[Tensors, float]:
        """Scale."""
        del product, start
        return tuple(self.scale * v for v in vector), 1.0


def _combine(first: Tensors, factor: float, second: Tensors) -> Tensors:
    return tuple(a + factor * b for a, b in zip(first, second, strict=True))


def _dot(first: Tensors, second: Tensors) -> float:
    return float(sum((a * b).sum().double() for a, b in zip(first, second, strict=True)))


def _norm(tensors: Tensors) -> float:
    return float(torch.stack([torch.linalg.vector_norm(_flat(t)) for t in tensors]).norm())


def _flat(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1)
