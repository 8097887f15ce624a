"""Own second derivatives against central differences and against PyTorch's."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from commentary_hub.errors import NotDifferentiable
from commentary_hub.learning import SGD, Adam, Implicit, Unrolled, _twice
from commentary_hub.learning._twice import TwiceDifferentiable
from tests.problems import TinyWeights, relative, smooth_convolutions, training

KERNELS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
CONVOLUTIONS = {
    "plain": {},
    "stride, padding, dilation": {"stride": 2, "padding": 2, "dilation": 2},
    "groups": {"groups": 2, "padding": 1},
    "a setting per axis": {"stride": (2, 1), "padding": (0, 1)},
    "padding by name": {"padding": "valid"},
}


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def inside(function):
    def run(*tensors):
        with TwiceDifferentiable():
            return function(*tensors)

    return run


def both_derivatives_hold(function, tensors):
    torch.manual_seed(0)
    one = inside(function)
    return torch.autograd.gradcheck(one, tensors) and torch.autograd.gradgradcheck(one, tensors, fast_mode=True)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions_against_central_differences(case, biased):
    tensors = draw(2, 4, 5, 4), draw(4, 4 // CONVOLUTIONS[case].get("groups", 1), 2, 2), *([draw(4)] * biased)
    run = lambda x, w, b=None: functional.conv2d(x, w, b, **CONVOLUTIONS[case])
    assert both_derivatives_hold(run, tensors)


@pytest.mark.parametrize("dimensions", KERNELS)
def test_convolutions_of_every_dimension(dimensions):
    tensors = draw(2, 2, *[3] * dimensions), draw(3, 2, *[2] * dimensions), draw(3)
    assert both_derivatives_hold(KERNELS[dimensions], tensors)
    assert "_Convolution" in inside(KERNELS[dimensions])(*tensors).grad_fn.name()
    assert inside(KERNELS[dimensions])(tensors[0][0], *tensors[1:]).ndim == dimensions + 1  # one example, unbatched


@pytest.mark.parametrize("frozen", range(3))
def test_what_needs_no_gradient_gets_none(frozen):
    tensors = draw(2, 2, 4, 4), draw(3, 2, 2, 2), draw(3)
    tensors[frozen].requires_grad_(False)
    assert both_derivatives_hold(functional.conv2d, tensors)
    tensors = draw(4, 3, 2, 2), draw(3), draw(3)
    tensors[frozen].requires_grad_(False)
    assert both_derivatives_hold(batch_norm, tensors)


def batch_norm(x, w, b):
    return functional.batch_norm(x, None, None, w, b, training=True)


@pytest.mark.parametrize("shape", [(5, 2), (3, 2, 4), (3, 2, 2, 3), (2, 2, 2, 1, 2)])
def test_batch_normalisation_against_central_differences(shape):
    tensors = draw(*shape), draw(2), draw(2)
    assert both_derivatives_hold(batch_norm, tensors)
    assert "_BatchNorm" in inside(batch_norm)(*tensors).grad_fn.name()
    with torch.no_grad():
        tensors[1][0] = 0.0  # as residual networks start
    assert both_derivatives_hold(batch_norm, tensors)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_network_has_pytorchs_second_derivatives_and_statistics(memory_format):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Softplus(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2), nn.BatchNorm2d(3)
    ).double()
    pictures = torch.randn(4, 2, 8, 8, dtype=torch.float64).to(memory_format=memory_format)
    own, theirs = (second_derivatives(network, pictures, mode) for mode in (TwiceDifferentiable(), None))
    assert relative(own, theirs) < 1e-12


def second_derivatives(network, pictures, mode):
    network[1].reset_running_stats()
    parameters = tuple(network.parameters())
    if mode is None:
        outputs = network(pictures)
    else:
        with mode:
            outputs = network(pictures)
    first = torch.autograd.grad(outputs.tanh().sum(), parameters, create_graph=True)
    second = torch.autograd.grad(sum((g * g).sum() for g in first), parameters)
    return (*(g.detach() for g in first), *second, network[1].running_mean.clone(), network[1].running_var.clone())


def test_evaluation_mode_autocast_and_other_types_are_pytorchs():
    x, w, b = draw(2, 3, 4, 4), draw(3), draw(3)
    running = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    run = lambda *tensors: functional.batch_norm(tensors[0], *running, *tensors[1:], training=False)
    assert "_BatchNorm" not in inside(run)(x, w, b).grad_fn.name()
    kernel = torch.randn(2, 3, 2, 2, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert inside(functional.conv2d)(x.float(), kernel).dtype == torch.bfloat16


def test_students_that_look_into_their_own_derivatives_get_pytorchs():
    x, w = draw(3, 2, 5, 5), draw(2, 2, 2, 2)
    with TwiceDifferentiable():
        strided = functional.conv2d(x, w, stride=np.int64(2))
    assert torch.equal(strided, functional.conv2d(x, w, stride=2))

    def second(layer):
        (first,) = torch.autograd.grad(layer(x).pow(3).sum(), w, create_graph=True)
        return torch.autograd.grad(first.square().sum(), w)[0]

    layer = lambda x: functional.conv2d(x, w)
    kept = inside(lambda x: checkpoint(layer, x, use_reentrant=False))
    assert relative(second(kept), second(layer)) < 1e-12
    with TwiceDifferentiable():
        each = torch.func.vmap(torch.func.grad(lambda one: functional.conv2d(one[None], w).square().sum()))(x)
    assert relative(each.detach(), torch.autograd.grad(functional.conv2d(x, w).square().sum(), x)[0]) < 1e-12


def test_a_third_derivative_is_right_or_refused():
    x, w, b = draw(3, 2, 3, 3), draw(2, 2, 2, 2), draw(2)

    def curvature(function):
        (first,) = torch.autograd.grad(function(x, w, b).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x, create_graph=True)[0]

    thirds = [torch.autograd.grad(curvature(f).sum(), x) for f in (functional.conv2d, inside(functional.conv2d))]
    assert relative(*thirds) < 1e-12
    w = draw(2)
    with pytest.raises(NotDifferentiable, match="third derivative"):
        curvature(inside(batch_norm))


def test_the_learner_takes_them(monkeypatch):
    torch.manual_seed(0)
    student = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Softplus(), nn.Flatten(), nn.Linear(36, 3))
    problem = training([TinyWeights(50)], student, shape=(2, 5, 5), inner=SGD(lr=0.1), steps=5)
    own = Unrolled().hypergradient(problem, problem.start()).value
    seen = []
    native = _twice._OWN[functional.batch_norm]
    counted = lambda *tensors, **settings: seen.append(1) or native(*tensors, **settings)
    monkeypatch.setattr(_twice, "_OWN", {functional.batch_norm: counted})
    Unrolled().hypergradient(problem, problem.start())
    assert len(seen) == 5  # in the replay of every step
    monkeypatch.setattr(_twice, "_OWN", {})
    assert relative(Unrolled().hypergradient(problem, problem.start()).value, own) < 1e-12


@pytest.fixture
def weight_gradients(monkeypatch):
    """For every first derivative of a convolution within a graph: whether the one in its weight was worked out."""
    seen, own = [], _twice._ConvolutionBackward.forward

    def forward(*inputs):
        found = own(*inputs)
        seen.append(any(found[1].stride()))
        return found

    monkeypatch.setattr(_twice._ConvolutionBackward, "forward", staticmethod(forward))
    return seen


class Standardised(nn.Module):
    """A convolution whose weight is a nonlinear function of its parameter: the derivative needs the gradient in it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 2, 3, 3))

    def forward(self, inputs):
        return functional.conv2d(inputs, self.weight / self.weight.square().sum().sqrt()).tanh()


@pytest.mark.parametrize(
    ("inner", "worked_out"),
    [
        (SGD(lr=0.2), False),
        (SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01), False),
        (SGD(lr=0.5, clip_norm=0.1), True),
        (Adam(lr=0.01, eps_root=1e-8), True),
    ],
    ids=["plain", "nesterov", "clipped", "adam"],
)
def test_gradients_that_only_derivatives_are_taken_of_are_not_worked_out(inner, worked_out, weight_gradients):
    torch.manual_seed(0)
    problem = training([TinyWeights(50)], smooth_convolutions(), shape=(2, 5, 5), inner=inner, steps=5)
    kept = Unrolled(memory="full").hypergradient(problem, problem.start()).value
    assert weight_gradients == [True] * 10  # two convolutions in five steps: the state moves on by them
    weight_gradients.clear()
    replayed = Unrolled().hypergradient(problem, problem.start()).value
    assert weight_gradients == [worked_out] * 10
    assert relative(replayed, kept) < 1e-10


@pytest.mark.parametrize("memory", ["stored", "checkpoints"])
def test_gradients_that_more_than_a_view_stands_behind_are_worked_out(memory, weight_gradients):
    torch.manual_seed(0)
    student = nn.Sequential(Standardised(), nn.Conv2d(4, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3))
    problem = training([TinyWeights(50)], student, shape=(2, 5, 5), inner=SGD(lr=0.5), steps=5)
    kept = Unrolled(memory="full").hypergradient(problem, problem.start()).value
    weight_gradients.clear()
    replayed = Unrolled(memory=memory).hypergradient(problem, problem.start()).value
    assert weight_gradients == [False, True] * 5  # the last layer's first
    assert relative(replayed, kept) < 1e-10


def test_implicit_steps_work_out_the_gradient_that_the_student_moves_by(weight_gradients):
    torch.manual_seed(0)
    problem = training([TinyWeights(50)], smooth_convolutions(), shape=(2, 5, 5), steps=3)
    Implicit(batches=3).hypergradient(problem, problem.start())
    assert weight_gradients == [True] * 2 + [False] * 4
