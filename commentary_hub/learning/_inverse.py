"""Inverse-Hessian-vector products p ≈ H⁻¹ v from Hessian-vector products alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from commentary_hub.errors import Diverged
from commentary_hub.learning._optimisers import Tensors, check_count, check_number

Product = Callable[[Tensors], Tensors]  # p → H p


class Inverse(Protocol):
    """A way to apply an inverse Hessian."""

    @property
    def name(self) -> str:
        """Short description for manifests."""

    @property
    def advice(self) -> str | None:
        """What to change where the result is worse than none; ``None`` where only its direction is meant."""

    def solve(self, product: Product, vector: Tensors, start: Tensors | None) -> Tensors:
        """P ≈ H⁻¹ ``vector``; ``start`` is a guess at p."""


@dataclass(frozen=True)
class Neumann:
    """The truncated series p = scale · Σ_{k=0}^{terms−1} (I − scale·H)^k v.

    Converges to H⁻¹v for 0 < scale < 2/λ_max(H) with H positive definite; with few terms it is a damped inverse that
    forgets directions of small curvature. With scale = the inner learning rate, ``terms`` = k equals unrolling the last
    k SGD steps at a converged student. Cost: ``terms`` − 1 products. Source: Lorraine et al. 2020 (whose K iterations
    are K + 1 terms).

    >>> Neumann(terms=3, scale=0.5).solve(lambda p: p, (torch.ones(1),), None)  # H = 1: 0.5 · (1 + 0.5 + 0.25)
    (tensor([0.8750]),)
    """

    terms: int = 3
    scale: float = 0.1

    def __post_init__(self) -> None:
        check_count("terms", self.terms)
        check_number("scale", self.scale, positive=True)

    @property
    def name(self) -> str:
        """Short description for manifests."""
        return f"Neumann(terms={self.terms}, scale={self.scale:g})"

    @property
    def advice(self) -> str:
        """Where the series grows."""
        return f"scale={self.scale:g} must be below 2/λmax of the inner Hessian: take about the inner learning rate"

    def solve(self, product: Product, vector: Tensors, start: Tensors | None) -> Tensors:
        """Sum the series; with ``start`` p₀ it is summed for the remainder, p₀ + series(v − H p₀)."""
        rest = vector if start is None else _combine(vector, -1.0, product(start))
        total = rest
        for _ in range(self.terms - 1):
            rest = _combine(rest, -self.scale, product(rest))
            total = _combine(total, 1.0, rest)
        if start is None:
            return tuple(self.scale * t for t in total)
        return _combine(start, self.scale, total)


@dataclass(frozen=True)
class ConjugateGradient:
    """Conjugate gradients on (H + damping·I) p = v, at most ``steps`` iterations, one product each.

    Exact after dim(θ) steps for positive definite H; ``damping`` > 0 is needed where H is singular or indefinite, as
    those of networks are. Raises `Diverged` where a direction of negative curvature is met.
    """

    steps: int = 10
    damping: float = 0.0

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_number("damping", self.damping)

    @property
    def name(self) -> str:
        """Short description for manifests."""
        return f"ConjugateGradient(steps={self.steps}, damping={self.damping:g})"

    @property
    def advice(self) -> str:
        """Where H is not positive definite."""
        return f"raise damping (now {self.damping:g}) or train the student longer"

    def solve(self, product: Product, vector: Tensors, start: Tensors | None) -> Tensors:
        """Iterate from ``start`` (default 0)."""

        def damped(p: Tensors) -> Tensors:
            return _combine(product(p), self.damping, p)

        least = 1e-24 * _dot(vector, vector)
        solution = tuple(torch.zeros_like(v) for v in vector) if start is None else start
        rest = vector if start is None else _combine(vector, -1.0, damped(start))
        direction, square = rest, _dot(rest, rest)
        for _ in range(self.steps):
            if square <= least:
                break
            curved = damped(direction)
            curvature = _dot(direction, curved)
            if not curvature > 0:
                raise Diverged(
                    f"conjugate gradients met curvature {curvature:.2e}: the inner Hessian is not positive definite "
                    f"here; {self.advice}",
                )
            length = square / curvature
            solution, rest = _combine(solution, length, direction), _combine(rest, -length, curved)
            before, square = square, _dot(rest, rest)
            direction = _combine(rest, square / before, direction)
        return solution


@dataclass(frozen=True)
class Identity:
    """p = scale·v: one step looked back, no products; its direction is meant, not its length."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_number("scale", self.scale, positive=True)

    @property
    def name(self) -> str:
        """Short description for manifests."""
        return f"Identity(scale={self.scale:g})"

    @property
    def advice(self) -> None:
        """It cannot diverge."""
        return

    def solve(self, product: Product, vector: Tensors, start: Tensors | None) -> Tensors:
        """Scale."""
        del product, start
        return tuple(self.scale * v for v in vector)


def relative_residual(vector: Tensors, reached: Tensors) -> float:
    """‖v − H p‖ / ‖v‖ of ``reached`` = H p; 0 where v is."""
    size = _dot(vector, vector) ** 0.5
    rest = _combine(vector, -1.0, reached)
    return _dot(rest, rest) ** 0.5 / size if size else 0.0


def _combine(first: Tensors, factor: float, second: Tensors) -> Tensors:
    return tuple(torch.add(a, b, alpha=factor) for a, b in zip(first, second, strict=True))


def _dot(first: Tensors, second: Tensors) -> float:
    return sum(float(torch.dot(a.reshape(-1), b.reshape(-1))) for a, b in zip(first, second, strict=True))
