"""How wrong a method is on a problem at hand: measured against the exact float64 hypergradient."""

from __future__ import annotations

import torch

from commentary_hub.learning._hypergradient import Method
from commentary_hub.learning._problem import Problem, State
from commentary_hub.learning._unrolled import Unrolled


def hypergradient_error(method: Method, problem: Problem, state: State) -> float:
    """‖g − g*‖ / ‖g*‖ of ``method`` from ``state``, where g* is `Unrolled` in float64 over all inner steps.

    For an exact method this is float32's share; for an implicit or truncated one mostly its bias. Cost: one run of the
    method and one of `Unrolled` in double precision.
    """
    found = torch.cat([g.double().flatten() for g in method.hypergradient(problem, state).value])
    exact = Unrolled(memory="stored").hypergradient(problem.double(), state.to(torch.float64))
    truth = torch.cat([g.flatten() for g in exact.value])
    return float((found - truth).norm() / truth.norm().clamp_min(torch.finfo(torch.float64).tiny))
