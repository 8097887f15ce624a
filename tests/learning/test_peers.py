"""The same hypergradient as higher and torchopt, on one shared problem in float64."""

import copy

import pytest
import torch
from torch.nn import functional

from commentary_hub.learning import SGD, Adam, Unrolled
from tests.problems import TinyWeights, relative, smooth_student, training

STEPS, EPS_ROOT = 25, 1e-8


def problem(inner, *, norm=True):
    torch.manual_seed(0)
    return training([TinyWeights(6)], smooth_student(norm=norm), inner=inner, steps=STEPS)


def loss(one, outputs, step):
    rows = one.batches[step]
    age = one.inputs.new_full((len(rows), 1), step / STEPS)
    weights = torch.sigmoid(one.commentaries[0].layer(torch.cat([one.inputs[rows], age], 1))).squeeze(1)
    return (weights * functional.cross_entropy(outputs, one.targets[rows], reduction="none")).mean()


def outer_gradient(one, student):
    found = functional.cross_entropy(student(one.validation_inputs), one.validation_targets)
    return torch.autograd.grad(found, tuple(one.commentaries[0].parameters()))


def by_higher(one, make):
    higher = pytest.importorskip("higher", reason="higher is not installed (the test group)")
    student = copy.deepcopy(one.student)
    with higher.innerloop_ctx(student, make(student.parameters())) as (functional_student, optimiser):
        for step in range(STEPS):
            optimiser.step(loss(one, functional_student(one.inputs[one.batches[step]]), step))
        return outer_gradient(one, functional_student)


def by_torchopt(one, make):
    pytest.importorskip("torchopt", reason="torchopt is not installed (the test group)")
    student = copy.deepcopy(one.student)
    optimiser = make(student)
    for step in range(STEPS):
        optimiser.step(loss(one, student(one.inputs[one.batches[step]]), step))
    return outer_gradient(one, student)


@pytest.mark.parametrize("memory", ["full", "stored", "checkpoints"])
def test_sgd_as_higher(memory):
    one = problem(SGD(lr=0.2, momentum=0.9, weight_decay=0.01))
    theirs = by_higher(one, lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9, weight_decay=0.01))
    assert relative(Unrolled(memory=memory).hypergradient(one, one.start()).value, theirs) < 1e-10


def test_adam_as_higher():
    """higher has no eps under the root, and without one a bias before batch norm, whose gradient is 0 but for rounding,
    has a derivative that is rounding alone: so no batch norm here.
    """
    one = problem(Adam(lr=0.02), norm=False)
    theirs = by_higher(one, lambda p: torch.optim.Adam(p, lr=0.02))
    assert relative(Unrolled().hypergradient(one, one.start()).value, theirs) < 1e-4


@pytest.mark.parametrize("memory", ["full", "stored", "checkpoints"])
def test_sgd_as_torchopt(memory):
    one = problem(SGD(lr=0.2, momentum=0.9, weight_decay=0.01))
    torchopt = pytest.importorskip("torchopt", reason="torchopt is not installed (the test group)")
    theirs = by_torchopt(one, lambda m: torchopt.MetaSGD(m, lr=0.2, momentum=0.9, weight_decay=0.01))
    assert relative(Unrolled(memory=memory).hypergradient(one, one.start()).value, theirs) < 1e-10


def test_adam_as_torchopt():
    one = problem(Adam(lr=0.02, eps_root=EPS_ROOT))
    torchopt = pytest.importorskip("torchopt", reason="torchopt is not installed (the test group)")
    theirs = by_torchopt(one, lambda m: torchopt.MetaAdam(m, lr=0.02, eps_root=EPS_ROOT))
    assert relative(Unrolled().hypergradient(one, one.start()).value, theirs) < 1e-4
