"""Inner optimisers are torch.optim's, step for step, without changing anything in place."""

import copy

import pytest
import torch
from torch import nn

from commentary_hub.errors import InputError
from commentary_hub.learning import SGD, Adam, AdamW


def halving(step):
    return 0.5**step


PAIRS = {
    "sgd": (SGD(lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "momentum": (SGD(lr=0.1, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    "nesterov, decay": (
        SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    ),
    "adam": (Adam(lr=0.01), lambda p: torch.optim.Adam(p, lr=0.01)),
    "adam, decay": (
        Adam(lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    ),
    "adamw": (AdamW(lr=0.01), lambda p: torch.optim.AdamW(p, lr=0.01)),
}


def train(inner, build, dtype, steps=12, *, clip=None, schedule=None):
    """Parameters after the same steps by the pure function and by torch."""
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).to(dtype)
    other = copy.deepcopy(student)
    inputs, targets = torch.randn(steps, 5, 4, dtype=dtype), torch.randn(steps, 5, 2, dtype=dtype)
    optimiser = build(other.parameters())
    scheduler = None if schedule is None else torch.optim.lr_scheduler.LambdaLR(optimiser, schedule)
    parameters = tuple(p.detach().clone() for p in student.parameters())
    state = inner.start(parameters)
    names = [name for name, _ in student.named_parameters()]
    for step in range(steps):
        leaves = tuple(p.detach().requires_grad_() for p in parameters)
        named = dict(zip(names, leaves, strict=True))
        loss = (torch.func.functional_call(student, named, (inputs[step],)) - targets[step]).square().mean()
        with torch.no_grad():
            parameters, state = inner.step(parameters, torch.autograd.grad(loss, leaves), state, step)
        optimiser.zero_grad()
        (other(inputs[step]) - targets[step]).square().mean().backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(other.parameters(), clip)
        optimiser.step()
        if scheduler is not None:
            scheduler.step()
    return torch.cat([p.flatten() for p in parameters]), torch.cat([p.detach().flatten() for p in other.parameters()])


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 2e-7)])
def test_steps_equal_those_of_torch(name, dtype, tolerance):
    ours, theirs = train(*PAIRS[name], dtype)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * 10)


def test_schedules_and_clipping_equal_those_of_torch():
    inner = SGD(lr=0.5, momentum=0.9, schedule=halving, clip_norm=0.3)
    build = lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9)
    ours, theirs = train(inner, build, torch.float64, clip=0.3, schedule=halving)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


def test_nothing_changes_in_place():
    parameters, gradients = (torch.ones(3),), (torch.full((3,), 2.0),)
    for inner in (SGD(lr=0.1, momentum=0.9), Adam(lr=0.1)):
        state = inner.start(parameters)
        moved, _ = inner.step(parameters, gradients, state, 0)
        assert not torch.equal(moved[0], parameters[0])
        assert torch.equal(parameters[0], torch.ones(3))
        assert all(torch.equal(one, torch.zeros(3)) for one in state)


@pytest.mark.parametrize("inner", [Adam(lr=0.1), Adam(lr=0.1, eps_root=1e-8), AdamW(lr=0.1)])
def test_adams_derivative_is_finite_where_a_parameter_never_had_a_gradient(inner):
    parameters = (torch.zeros(2, requires_grad=True),)
    gradients = (torch.tensor([0.0, 1.0], requires_grad=True),)
    moved, state = inner.step(parameters, gradients, inner.start(parameters), 0)
    for tensor in (*moved, *state):
        (found,) = torch.autograd.grad(tensor.sum(), gradients, retain_graph=True)
        assert torch.isfinite(found).all()


@pytest.mark.parametrize("build", [SGD, Adam, AdamW])
@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("lr", 0, "lr is 0: give a finite number above 0"),
        ("lr", -0.1, "lr is -0.1"),
        ("lr", float("nan"), "lr is nan"),
        ("lr", float("inf"), "lr is inf"),
        ("lr", "0.1", "lr is '0.1'"),
        ("lr", True, "lr is True"),
        ("weight_decay", -1, "weight_decay is -1: give a finite number of at least 0"),
        ("clip_norm", 0, "clip_norm is 0: give a finite number above 0"),
        ("clip_norm", -1.0, "clip_norm is -1.0"),
        ("schedule", "cosine", "schedule is 'cosine': give a function"),
    ],
)
def test_settings_without_meaning_are_refused(build, setting, value, words):
    with pytest.raises(InputError, match=words):
        build(**{"lr": 0.1, setting: value})


@pytest.mark.parametrize(
    ("build", "settings", "words"),
    [
        (SGD, {"momentum": 1.0}, "momentum is 1.0: give a number of at least 0 and below 1"),
        (SGD, {"momentum": "0.9"}, "momentum is '0.9'"),
        (SGD, {"nesterov": True}, "nesterov needs momentum"),
        (SGD, {"momentum": 0.9, "nesterov": "no"}, "nesterov is 'no': give True or False"),
        (Adam, {"decoupled": 1}, "decoupled is 1: give True or False"),
        (Adam, {"betas": (1.0, 0.9)}, r"betas\[0\] is 1.0: give a number of at least 0 and below 1"),
        (Adam, {"betas": (0.9, -0.1)}, r"betas\[1\] is -0.1"),
        (Adam, {"betas": (0.9,)}, r"betas is \(0.9,\): give two numbers"),
        (Adam, {"betas": 0.9}, "betas is 0.9: give two numbers"),
        (Adam, {"eps": -1e-8}, "eps is -1e-08"),
        (AdamW, {"eps_root": -1.0}, "eps_root is -1.0"),
    ],
)
def test_settings_of_one_optimiser_without_meaning_are_refused(build, settings, words):
    with pytest.raises(InputError, match=words):
        build(lr=0.1, **settings)
