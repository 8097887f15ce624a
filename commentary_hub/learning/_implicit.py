"""Hypergradients by implicit differentiation: no reverse pass through training, memory of a single step."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from commentary_hub.errors import Diverged, InputError
from commentary_hub.learning._hypergradient import Hypergradient, check_finite, check_loss, filled
from commentary_hub.learning._inverse import Inverse, Neumann, relative_residual
from commentary_hub.learning._optimisers import Tensors, check_count, check_flag
from commentary_hub.learning._problem import Problem, State, advance, own_generators

GROWN = 10.0  # a relative residual above this is no inexact solution any more


@dataclass(frozen=True)
class Implicit:
    """dL_V/dφ = ∂L_V/∂φ − (∂²L_T/∂φ∂θ)ᵀ p with p ≈ (∂²L_T/∂θ²)⁻¹ ∂L_V/∂θ.

    Valid where the student is near a minimum of its training loss L_T (the implicit function theorem); used online,
    before that, it is the field's working approximation. ``inverse`` says how p is found. L_T, its Hessian and the
    mixed derivative are those of the last inner step, at the parameters that it started from, so that the training step
    and the derivatives share one graph (and `Identity` with SGD's learning rate is exactly one step unrolled); with
    ``batches`` > 1 they are means over the batches of the last so many steps, at the same parameters. With
    ``warm_start`` p of the same student's previous hypergradient is the first guess.

    Weight decay in the optimiser's gradient belongs to L_T as (λ/2)‖θ‖², so that λ p is part of H p.

    The residual ‖v − H p‖ / ‖v‖, v = ∂L_V/∂θ, comes at no cost: the pass that finds the mixed derivative finds H p too.
    Where it is above ``GROWN`` (p = 0 would have 1) the inverse does not invert: `Diverged`, with advice. Raises
    `InputError` for ``batches`` below 1 and for what is no inverse.

    Cost: training forward, then about 2 + 2·(products of the inverse) passes. Source: Lorraine et al. 2020;
    Raghu et al. 2021, algorithm 2.
    """

    inverse: Inverse = field(default_factory=Neumann)
    batches: int = 1
    warm_start: bool = False

    def __post_init__(self) -> None:
        check_count("batches", self.batches)
        check_flag("warm_start", self.warm_start)
        if isinstance(self.inverse, type) or not callable(getattr(self.inverse, "solve", None)):
            raise InputError(
                f"inverse is {self.inverse!r}: give Neumann(...), ConjugateGradient(...) or Identity(), or another "
                "value with their methods"
            )

    @property
    def name(self) -> str:
        """Short description for manifests."""
        said = [f"{self.batches} batches"] if self.batches > 1 else []
        said += ["warm start"] if self.warm_start else []
        return ", ".join(["implicit", self.inverse.name, *said])

    def hypergradient(self, problem: Problem, state: State, *, warm: Tensors | None = None) -> Hypergradient:
        """Train from ``state`` and differentiate at its end."""
        with own_generators(state.parameters[0].device):
            for step in range(problem.steps - 1):
                state = advance(problem, state, step)
            before = state.leaves()
            slope = problem.slope(before, problem.steps - 1, create_graph=True)
            with torch.no_grad():
                state = problem.update(before, slope, problem.steps - 1).detached()
            end = state.leaves()
            loss = problem.outer_loss(end)
            value = check_loss(loss, where="the outer loss")
            count = len(end.parameters)
            found = torch.autograd.grad(loss, (*end.parameters, *problem.commentary), allow_unused=True)
            vector, direct = filled(found[:count], end.parameters), filled(found[count:], problem.commentary)
            gradients = self._mean(problem, before, slope.gradients)

            def product(p: Tensors) -> Tensors:
                found = torch.autograd.grad(gradients, before.parameters, p, retain_graph=True, allow_unused=True)
                return _penalised(filled(found, end.parameters), problem.penalty, p)

            solution = self.inverse.solve(product, vector, warm if self.warm_start else None)
            found = torch.autograd.grad(
                gradients, (*before.parameters, *problem.commentary), solution, allow_unused=True
            )
        mixed = filled(found[count:], problem.commentary)
        reached = _penalised(filled(found[:count], end.parameters), problem.penalty, solution)
        residual = relative_residual(vector, reached)
        if self.inverse.advice is not None and not residual < GROWN:
            raise Diverged(
                f"{self.inverse.name} diverges: its residual is {residual:.2e} of the vector; {self.inverse.advice}",
                residual=residual,
            )
        total = tuple(d - m for d, m in zip(direct, mixed, strict=True))
        return Hypergradient(
            check_finite(total, method=self.name), value, state, problem.steps, residual=residual, solution=solution
        )

    def _mean(self, problem: Problem, before: State, last: Tensors) -> Tensors:
        """∂L_T/∂θ with its graph, over the batches of the last steps."""
        first = max(0, problem.steps - self.batches)
        steps = range(first, problem.steps - 1)
        slopes = [problem.slope(before, step, create_graph=True, values=False) for step in steps]
        parts = zip(last, *(slope.gradients for slope in slopes), strict=True)
        return tuple(torch.stack(part).mean(0) for part in parts) if slopes else last


def _penalised(product: Tensors, penalty: float, p: Tensors) -> Tensors:
    """H p with the optimiser's weight decay in H."""
    return tuple(h + penalty * one for h, one in zip(product, p, strict=True)) if penalty else product
