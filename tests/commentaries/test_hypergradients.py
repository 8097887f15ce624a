"""Exact hypergradients of every kind, alone and together, against float64 central differences on smooth students."""

import pytest
import torch

from commentary_hub.commentaries import AttentionMask, LabelBlend, WeightNetwork, compose
from commentary_hub.learning import SGD, Adam, Unrolled, hypergradient_error
from tests.problems import (
    CLASSES,
    along,
    central_difference,
    random_directions,
    relative,
    smooth_convolutions,
    smooth_student,
    training,
)

MLP = {"inputs": 6, "hidden": [5], "smooth": True}
MAP = {"width": 3, "kernel": 3, "pool": 1, "smooth": True}


def blend():
    one = LabelBlend(CLASSES)
    torch.nn.init.normal_(one.logits)
    return one


def weights(**options):
    return WeightNetwork("mlp", settings=MLP, **options)


def mask(**options):
    return AttentionMask(2, settings=MAP, sigma=(1.5, 2.0), background=0.1, **options)


FLAT = {
    "weights": lambda: [weights()],
    "weights by label": lambda: [weights(labels="index", classes=CLASSES)],
    "weights fed the label": lambda: [weights(labels="input", classes=CLASSES)],
    "blend": lambda: [blend()],
    "weights and blend": lambda: [weights(labels="index", classes=CLASSES), blend()],
}
PICTURES = {
    "centre": lambda: [mask()],
    "centre and width": lambda: [mask(learn_sigma=True)],
    "map": lambda: [mask(form="map")],
    "weights, mask and blend": lambda: [
        WeightNetwork("mlp", settings=MLP | {"inputs": 50}, labels="index", classes=CLASSES),
        mask(learn_sigma=True),
        blend(),
    ],
}


def check(problem):
    state = problem.start()
    directions = random_directions(problem)
    truth = central_difference(problem, state, directions)
    for memory in ("full", "stored", "checkpoints"):
        found = Unrolled(memory=memory).hypergradient(problem, state)
        assert relative((along(found.value, directions),), (truth,)) < 1e-6
    assert hypergradient_error(Unrolled(), problem, state) < 1e-12


@pytest.mark.parametrize("optimiser", [SGD(lr=0.2, momentum=0.9), Adam(lr=0.02, eps_root=1e-8)], ids=["sgd", "adam"])
@pytest.mark.parametrize("kind", FLAT)
def test_on_vectors(kind, optimiser):
    torch.manual_seed(1)
    check(training(FLAT[kind](), smooth_student(), inner=optimiser))


@pytest.mark.parametrize("kind", PICTURES)
def test_on_pictures(kind):
    torch.manual_seed(1)
    check(training(compose(PICTURES[kind]()), smooth_convolutions(), shape=(2, 5, 5)))


def test_a_commentary_that_draws_at_random_is_replayed_exactly():
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(5, 1))
    problem = training([WeightNetwork(module)], smooth_student(dropout=0.3))
    full, *others = (Unrolled(memory=memory) for memory in ("full", "stored", "checkpoints"))
    truth = full.hypergradient(problem, problem.start()).value
    for method in others:
        assert relative(method.hypergradient(problem, problem.start()).value, truth) < 1e-12
