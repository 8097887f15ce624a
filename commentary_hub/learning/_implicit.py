"""Hypergradients by implicit differentiation: no reverse pass through training, memory of a single step."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from commentary_hub.learning._hypergradient import Hypergradient, check_finite, check_loss, filled
from commentary_hub.learning._inverse import Inverse, Neumann
from commentary_hub.learning._optimisers import Tensors
from commentary_hub.learning._problem import Problem, State


@dataclass(frozen=True)
class Implicit:
    """dL_V/dφ = ∂L_V/∂φ − (∂²L_T/∂φ∂θ)ᵀ p with p ≈ (∂²L_T/∂θ²)⁻¹ ∂L_V/∂θ.

    Valid where the student is near a minimum of its training loss L_T (the implicit function theorem); used online,
    before that, it is the field's working approximation. ``inverse`` says how p is found. L_T and its Hessian are
    taken on the batch of the last inner step, or on the batches of the last ``batches`` steps together. With
    ``warm_start`` p of the same student's previous hypergradient is the first guess.

    Cost: training forward, then about 2 + 2·(products of the inverse) passes. Source: Lorraine et al. 2020;
    Raghu et al. 2021, algorithm 2.
    """

    inverse: Inverse = field(default_factory=Neumann)
    batches: int = 1
    warm_start: bool = False

    @property
    def name(self) -> str:
        """Short description for manifests."""
        return f"implicit, {self.inverse.name}"

    def hypergradient(self, problem: Problem, state: State, *, warm: Tensors | None = None) -> Hypergradient:
        """Train from ``state`` and differentiate at its end."""
        devices = [state.parameters[0].device] if state.parameters[0].is_cuda else []
        with torch.random.fork_rng(devices=devices):
            for step in range(problem.steps):
                state = problem.step(state, step, create_graph=False)
            end = state.leaves()
            loss = problem.outer_loss(end)
            value = check_loss(loss, where="the outer loss")
            count = len(end.parameters)
            found = torch.autograd.grad(loss, (*end.parameters, *problem.commentary), allow_unused=True)
            vector, direct = filled(found[:count], end.parameters), filled(found[count:], problem.commentary)
            slope = self._slope(problem, end)

            def product(p: Tensors) -> Tensors:
                found = torch.autograd.grad(slope, end.parameters, p, retain_graph=True, allow_unused=True)
                return filled(found, end.parameters)

            solution, residual = self.inverse.solve(product, vector, warm if self.warm_start else None)
            mixed = filled(
                torch.autograd.grad(slope, problem.commentary, solution, allow_unused=True), problem.commentary
            )
        total = tuple(d - m for d, m in zip(direct, mixed, strict=True))
        return Hypergradient(
            check_finite(total, method=self.name), value, state, problem.steps, residual=residual, solution=solution
        )

    def _slope(self, problem: Problem, end: State) -> Tensors:
        """∂L_T/∂θ with its graph."""
        last = range(max(0, problem.steps - self.batches), problem.steps)
        losses = [problem.inner_loss(end.parameters, end, step) for step in last]
        loss = torch.stack(losses).mean()
        found = torch.autograd.grad(loss, end.parameters, create_graph=True, allow_unused=True)
        # A parameter without gradient still takes part as a zero that depends on nothing.
        return tuple(
            p * 0 if g is None or not g.requires_grad else g for g, p in zip(found, end.parameters, strict=True)
        )
