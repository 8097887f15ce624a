"""Implicit hypergradients against closed forms; series and solvers that fail say so."""

from itertools import pairwise

import pytest
import torch

from commentary_hub.commentaries import LabelBlend, WeightNetwork
from commentary_hub.errors import Diverged, InputError
from commentary_hub.learning import SGD, Adam, AdamW, ConjugateGradient, Identity, Implicit, Neumann, Unrolled, advance
from tests.problems import (
    CLASSES,
    Quadratic,
    Ridge,
    TinyBlend,
    TinyMask,
    TinyWeights,
    relative,
    smooth_student,
    table,
    training,
)


def test_ridge_by_conjugate_gradients_in_closed_form():
    problem = Ridge()
    found = Implicit(ConjugateGradient(steps=8)).hypergradient(problem, problem.start())
    assert relative(found.value, (problem.hypergradient(),)) < 1e-10
    assert found.residual < 1e-10


def test_ridge_by_a_long_neumann_series():
    problem = Ridge()
    scale = 1 / float(torch.linalg.eigvalsh(problem.hessian())[-1])
    found = Implicit(Neumann(terms=400, scale=scale)).hypergradient(problem, problem.start())
    assert relative(found.value, (problem.hypergradient(),)) < 1e-8
    assert found.residual < 1e-8


@pytest.mark.parametrize("terms", [1, 3, 10])
def test_neumann_terms_are_the_stated_sum(terms):
    problem = Quadratic(steps=7, rate=0.1)
    found = Implicit(Neumann(terms=terms, scale=0.1)).hypergradient(problem, problem.start())
    assert relative(found.value, (problem.hypergradient(terms),)) < 1e-12
    away = problem.last() - problem.target
    residual = float((problem.shrink(terms) @ away).norm() / away.norm())
    assert found.residual == pytest.approx(residual, rel=1e-10)


def test_identity_is_the_first_term_and_the_last_step():
    problem = Quadratic(steps=7, rate=0.1)
    one = Implicit(Identity(scale=0.1)).hypergradient(problem, problem.start())
    assert relative(one.value, (problem.hypergradient(1),)) < 1e-12
    assert relative(one.value, Unrolled(truncate=1).hypergradient(problem, problem.start()).value) < 1e-12


def test_a_warm_start_goes_on_from_the_last_solution():
    problem = Ridge()
    scale = 1 / float(torch.linalg.eigvalsh(problem.hessian())[-1])
    method = Implicit(Neumann(terms=20, scale=scale), warm_start=True)
    residuals, warm = [], None
    for _ in range(5):
        found = method.hypergradient(problem, problem.start(), warm=warm)
        warm = found.solution
        residuals.append(found.residual)
    assert all(later < 0.9 * before for before, later in pairwise(residuals))
    long = Implicit(Neumann(terms=100, scale=scale)).hypergradient(problem, problem.start())
    assert relative(found.value, long.value) < 1e-9


@pytest.mark.parametrize("kind", [table, lambda: TinyWeights(6)])
def test_at_a_minimum_implicit_meets_unrolled(kind):
    """With a strongly convex training loss, both find the same derivative once training has converged."""
    torch.manual_seed(0)
    inner = SGD(lr=1.0, weight_decay=0.1)
    student = torch.nn.Linear(6, 3)
    problem = training([kind()], student, inner=inner, steps=400, batch=12, domain=10**9)
    exact = Unrolled().hypergradient(problem, problem.start())
    found = Implicit(ConjugateGradient(steps=60)).hypergradient(problem, problem.start())
    assert found.residual < 1e-6  # of the Hessian that weight decay is part of
    assert relative(found.value, exact.value) < 1e-6


def dense(problem, before, end):
    """(v, H, mixed, direct) of the last step as matrices, one derivative at a time."""
    leaves = before.leaves()
    (slope,) = problem.slope(leaves, problem.steps - 1, create_graph=True).gradients
    inputs = (*leaves.parameters, *problem.commentary)
    rows = [torch.autograd.grad(one, inputs, retain_graph=True, allow_unused=True) for one in slope]
    flat = lambda row: torch.cat([(g if g is not None else torch.zeros_like(p)).flatten() for g, p in row])
    hessian = torch.stack([row[0] for row in rows])
    hessian += problem.penalty * torch.eye(len(hessian), dtype=hessian.dtype)
    mixed = torch.stack([flat(zip(row[1:], problem.commentary, strict=True)) for row in rows])
    last = end.leaves()
    found = torch.autograd.grad(problem.outer_loss(last), (*last.parameters, *problem.commentary), allow_unused=True)
    return found[0], hessian, mixed, flat(zip(found[1:], problem.commentary, strict=True))


KINDS = {
    "table": lambda: [table()],
    "network": lambda: [TinyWeights(6)],
    "mask": lambda: [TinyMask(6)],
    "weights, mask and blend": lambda: [table(), TinyMask(6), TinyBlend(CLASSES)],
    "weight network": lambda: [
        WeightNetwork("mlp", settings={"inputs": 6, "hidden": [4], "smooth": True}, labels="index", classes=CLASSES)
    ],
    "label blend": lambda: [LabelBlend(classes=CLASSES)],
}
INNER = {
    "sgd": SGD(lr=0.1),
    "nesterov": SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": Adam(lr=0.02, eps_root=1e-8),
    "adamw": AdamW(lr=0.02, eps_root=1e-8),
}


@pytest.mark.parametrize("optimiser", INNER)
@pytest.mark.parametrize("kind", KINDS)
def test_every_inverse_is_its_dense_twin(kind, optimiser):
    torch.manual_seed(1)
    problem = training(KINDS[kind](), smooth_student(norm=True), inner=INNER[optimiser], steps=4, batch=8)
    before = problem.start()
    with torch.random.fork_rng():
        for step in range(3):
            before = advance(problem, before, step)
        end = advance(problem, before, 3)
    vector, hessian, mixed, direct = dense(problem, before, end)
    eye = torch.eye(len(hessian), dtype=torch.float64)
    scale = float(0.5 / torch.linalg.eigvalsh(hessian).abs().max())
    damping = float(1.0 - torch.linalg.eigvalsh(hessian).min())
    series = scale * sum(torch.linalg.matrix_power(eye - scale * hessian, k) for k in range(4))
    twins = {
        Neumann(terms=4, scale=scale): series @ vector,
        ConjugateGradient(steps=300, damping=damping): torch.linalg.solve(hessian + damping * eye, vector),
        Identity(scale=0.3): 0.3 * vector,
    }
    for inverse, solution in twins.items():
        found = Implicit(inverse).hypergradient(problem, problem.start())
        value = torch.cat([g.flatten() for g in found.value])
        assert relative((value,), (direct - mixed.T @ solution,)) < 1e-6
        residual = float((vector - hessian @ solution).norm() / vector.norm())
        assert found.residual == pytest.approx(residual, rel=1e-5)


def test_a_series_that_grows_is_an_error_with_advice():
    problem = Quadratic(steps=1)
    with pytest.raises(Diverged, match="scale=10 must be below 2/λmax"):
        Implicit(Neumann(terms=20, scale=10.0)).hypergradient(problem, problem.start())


def test_negative_curvature_is_an_error_with_advice():
    problem = Quadratic(steps=1)
    problem.matrix = -problem.matrix
    with pytest.raises(Diverged, match="raise damping"):
        Implicit(ConjugateGradient(steps=5)).hypergradient(problem, problem.start())


def test_damping_makes_conjugate_gradients_solve_the_damped_system():
    problem = Ridge()
    found = Implicit(ConjugateGradient(steps=10, damping=2.0)).hypergradient(problem, problem.start())
    damped = problem.hessian() + 2.0 * torch.eye(4, dtype=torch.float64)
    slope = problem.held_inputs.T @ (problem.held_inputs @ problem.start().parameters[0] - problem.held_targets)
    assert relative(found.solution, (torch.linalg.solve(damped, slope),)) < 1e-10


def test_one_term_is_one_step_unrolled_anywhere_on_the_way():
    """Also far from any minimum: the last step's derivatives are taken where that step started."""
    torch.manual_seed(0)
    problem = training([table(), TinyMask(6)], smooth_student(norm=True), steps=5, inner=SGD(lr=0.3))
    exact = Unrolled(truncate=1).hypergradient(problem, problem.start())
    found = Implicit(Identity(scale=0.3)).hypergradient(problem, problem.start())
    assert relative(found.value, exact.value) < 1e-12
    assert relative(found.state.parameters, exact.state.parameters) == 0


def test_several_batches_stand_for_the_training_loss():
    torch.manual_seed(0)
    problem = training([table()], smooth_student(norm=True), steps=4, batch=3)
    whole = Implicit(Identity(), batches=4).hypergradient(problem, problem.start())
    before = problem.start()
    for step in range(3):
        before = advance(problem, before, step)
    parts = []
    for step in range(4):
        leaves = before.leaves()
        slope = problem.slope(leaves, step, create_graph=True)
        (part,) = torch.autograd.grad(slope.gradients, problem.commentary, whole.solution)
        parts.append(-part / 4)
    assert relative(whole.value, (sum(parts),)) < 1e-10


@pytest.mark.parametrize(
    ("build", "settings", "words"),
    [
        (Neumann, {"terms": 0}, "terms is 0: give a whole number of at least 1"),
        (Neumann, {"terms": 3.5}, "terms is 3.5"),
        (Neumann, {"scale": 0}, "scale is 0: give a finite number above 0"),
        (Neumann, {"scale": float("nan")}, "scale is nan"),
        (ConjugateGradient, {"steps": 0}, "steps is 0"),
        (ConjugateGradient, {"steps": 2.5}, "steps is 2.5"),
        (ConjugateGradient, {"damping": -1}, "damping is -1: give a finite number of at least 0"),
        (ConjugateGradient, {"damping": float("nan")}, "damping is nan"),
        (Identity, {"scale": -1}, "scale is -1"),
        (Implicit, {"batches": 0}, "batches is 0"),
        (Implicit, {"batches": 2.5}, "batches is 2.5"),
        (Implicit, {"inverse": "neumann"}, r"inverse is 'neumann': give Neumann\(...\), ConjugateGradient"),
        (Implicit, {"inverse": Neumann}, "inverse is <class"),
    ],
)
def test_settings_without_meaning_are_refused(build, settings, words):
    with pytest.raises(InputError, match=words):
        build(**settings)
