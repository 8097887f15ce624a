"""Exact methods against closed forms, central differences, and each other."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from commentary_hub.commentaries import cross_entropy
from commentary_hub.errors import InputError
from commentary_hub.learning import SGD, Adam, AdamW, Unrolled, hypergradient_error
from tests.problems import (
    CLASSES,
    Quadratic,
    TinyBlend,
    TinyMask,
    TinyWeights,
    along,
    central_difference,
    fresh,
    random_directions,
    relative,
    single_precision,
    smooth_convolutions,
    smooth_student,
    table,
    training,
)

MEMORIES = ["full", "stored", "checkpoints", 10_000]
OPTIMISERS = {
    "sgd": SGD(lr=0.2),
    "nesterov": SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "clipped": SGD(lr=0.5, momentum=0.5, clip_norm=0.3, schedule=lambda step: 1 / (1 + step)),
    "adam": Adam(lr=0.02, eps_root=1e-8),
    "adam, no root": Adam(lr=0.02),
    "adamw": AdamW(lr=0.02, eps_root=1e-8, weight_decay=0.1),
}
KINDS = {
    "table": lambda: [table()],
    "curriculum": lambda: [table(stages=3)],
    "network": lambda: [TinyWeights(6)],
    "mask": lambda: [TinyMask(6)],
    "blend": lambda: [TinyBlend(CLASSES)],
    "weights, mask and blend": lambda: [table(), TinyMask(6), TinyBlend(CLASSES)],
}


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("steps", [1, 2, 7, 16])
def test_the_quadratic_in_closed_form(memory, steps):
    problem = Quadratic(steps=steps)
    found = Unrolled(memory=memory).hypergradient(problem, problem.start())
    assert relative(found.value, (problem.hypergradient(),)) < 1e-14
    assert relative(found.state.parameters, (problem.last(),)) < 1e-14
    assert found.inner_steps == steps


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("truncate", [1, 3, 7, 50])
def test_truncation_keeps_the_last_steps_share(memory, truncate):
    problem = Quadratic(steps=7)
    found = Unrolled(memory=memory, truncate=truncate).hypergradient(problem, problem.start())
    assert relative(found.value, (problem.hypergradient(min(truncate, 7)),)) < 1e-14


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("kind", KINDS)
def test_central_differences_agree(kind, optimiser):
    torch.manual_seed(1)
    problem = training(KINDS[kind](), smooth_student(), inner=OPTIMISERS[optimiser])
    state = problem.start()
    directions = random_directions(problem)
    truth = central_difference(problem, state, directions)
    for memory in ("full", "stored", "checkpoints"):
        found = Unrolled(memory=memory).hypergradient(problem, state)
        assert relative((along(found.value, directions),), (truth,)) < 1e-6


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_reductions_agree_with_central_differences(reduction):
    torch.manual_seed(1)
    problem = training([table()], smooth_student(), inner=SGD(lr=0.05), reduction=reduction)
    directions = random_directions(problem)
    truth = central_difference(problem, problem.start(), directions)
    found = Unrolled().hypergradient(problem, problem.start())
    assert relative((along(found.value, directions),), (truth,)) < 1e-6


def test_a_detached_normaliser_is_part_of_the_definition():
    """``weight_mean`` holds Σw fixed in the derivative, so the oracle is the sum with Σw of the given φ as a rate."""
    torch.manual_seed(1)
    one = table()
    problem = training([one], smooth_student(), reduction="weight_mean", steps=1, inner=SGD(lr=0.2))
    weights = torch.sigmoid(one.logits.detach()[problem.batches[0], 0]).sum()
    same = training([table()], problem.student, reduction="sum", steps=1, inner=SGD(lr=0.2 / float(weights)))
    truth = Unrolled().hypergradient(same, same.start())
    assert relative(Unrolled().hypergradient(problem, problem.start()).value, truth.value) < 1e-13


@pytest.mark.parametrize("optimiser", ["sgd", "nesterov", "adam"])
@pytest.mark.parametrize("memory", ["stored", "checkpoints", 60_000])
def test_replay_equals_the_kept_graph_with_batch_norm_and_dropout(optimiser, memory):
    torch.manual_seed(2)
    student = smooth_convolutions(dropout=0.3)
    problem = training(
        [TinyWeights(50), TinyBlend(CLASSES)], student, shape=(2, 5, 5), inner=OPTIMISERS[optimiser], steps=17
    )
    state = problem.start()
    truth = Unrolled(memory="full").hypergradient(fresh(problem), state)
    found = Unrolled(memory=memory).hypergradient(fresh(problem), state)
    assert relative(found.value, truth.value) < 1e-10
    for one, other in zip(found.state.buffers, truth.state.buffers, strict=True):
        assert torch.equal(one, other)
    assert int(found.state.buffers[2]) == 17  # num_batches_tracked counts every step once, replays not


class DrawingWeights(TinyWeights):
    """Example weights by a network that draws: what it makes of a step must be the same each time."""

    kind = "drawing_weights"
    calls = 0

    def forward(self, batch, progress):
        self.calls += 1
        seen = super().forward(replace(batch, inputs=nn.functional.dropout(batch.inputs, 0.3)), progress)
        return batch.weighted(seen.weights)


@pytest.mark.parametrize(("memory", "calls"), [("full", 17), ("stored", 34), ("checkpoints", 34), (60_000, 34)])
def test_a_weight_network_sees_a_step_once_without_a_graph_and_once_with(memory, calls):
    torch.manual_seed(2)
    judge = DrawingWeights(50)
    problem = training([judge], smooth_convolutions(dropout=0.3), shape=(2, 5, 5), steps=17)
    state = problem.start()
    truth = Unrolled(memory="full").hypergradient(fresh(problem), state)
    found = Unrolled(memory=memory).hypergradient(problem, state)
    assert judge.calls == calls
    assert relative(found.value, truth.value) < 1e-10
    with torch.no_grad():
        judge.layer.weight.mul_(-3)  # an outer step: what was kept is not used for another φ
    truth = Unrolled(memory="full").hypergradient(fresh(problem), state)
    assert relative(Unrolled(memory=memory).hypergradient(problem, state).value, truth.value) < 1e-10


def test_weights_are_not_kept_for_a_batch_that_is_blended_too():
    torch.manual_seed(2)
    problem = training([DrawingWeights(50), TinyBlend(CLASSES)], smooth_convolutions(), shape=(2, 5, 5), steps=17)
    state = problem.start()
    truth = Unrolled(memory="full").hypergradient(fresh(problem), state)
    assert relative(Unrolled(memory="checkpoints").hypergradient(problem, state).value, truth.value) < 1e-10


def test_central_differences_agree_through_native_batch_norm_and_dropout():
    torch.manual_seed(2)
    problem = training(
        [TinyWeights(50)], smooth_convolutions(dropout=0.3), shape=(2, 5, 5), inner=OPTIMISERS["nesterov"], steps=8
    )
    directions = random_directions(problem)
    truth = central_difference(problem, problem.start(), directions)
    found = Unrolled().hypergradient(problem, problem.start())
    assert relative((along(found.value, directions),), (truth,)) < 1e-6


def test_augmentation_is_replayed():
    torch.manual_seed(3)
    seen = []

    def jitter(inputs, seed):
        noise = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(seed), dtype=inputs.dtype)
        seen.append(seed)
        return inputs + 0.3 * noise

    problem = training([table()], smooth_student(norm=True), augmentation=jitter, steps=9)
    truth = Unrolled(memory="full").hypergradient(problem, problem.start())
    found = Unrolled(memory="checkpoints").hypergradient(problem, problem.start())
    assert relative(found.value, truth.value) < 1e-10
    assert len(set(seen)) == 9


def test_the_callers_random_numbers_are_left_alone():
    problem = training([table()], smooth_student(dropout=0.5), steps=4)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Unrolled().hypergradient(problem, problem.start())
    assert torch.equal(torch.rand(3), expected)


def test_the_sweep_in_float64_replays_the_float32_run():
    torch.manual_seed(4)
    seen = []

    def criterion(outputs, targets):
        seen.append(outputs.dtype)
        return cross_entropy(outputs, targets)

    inner = Adam(lr=0.02, eps_root=1e-10)
    problem = single_precision(training([table()], smooth_student(), inner=inner, steps=20, criterion=criterion))
    state = problem.start()
    method = Unrolled(backward_dtype=torch.float64)
    found = method.hypergradient(problem, state)
    assert seen == [torch.float32] * 21 + [torch.float64] * 22  # of both a first step, to see that they are the same
    assert found.value[0].dtype == found.state.parameters[0].dtype == torch.float32
    assert hypergradient_error(method, problem, state) < 1e-5


def test_the_sweep_in_float64_sees_the_dropout_and_the_augmentation_of_the_float32_run():
    torch.manual_seed(4)
    pictures = []

    def jitter(inputs, seed):
        noise = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(seed), dtype=inputs.dtype)
        pictures.append(noise)
        return inputs + 0.3 * noise

    student = smooth_convolutions(dropout=0.3)
    one = training([TinyWeights(50)], student, shape=(2, 5, 5), steps=12, augmentation=jitter)
    problem = single_precision(one)
    wide = Unrolled(backward_dtype=torch.float64).hypergradient(problem, problem.start())
    assert all(torch.equal(a, b) for a, b in zip(pictures[:12], reversed(pictures[14:]), strict=True))
    assert torch.equal(pictures[12], pictures[13])  # the first step, taken in both to see that it is the same
    narrow = Unrolled().hypergradient(problem, problem.start())
    assert 0 < relative(wide.value, narrow.value) < 1e-3


def test_frozen_parameters_stay_and_tied_ones_move_together():
    torch.manual_seed(1)
    student = smooth_student()
    student[1].weight.requires_grad_(False)
    tied = nn.Linear(CLASSES, CLASSES)
    student.append(tied).append(nn.Tanh()).append(tied)
    problem = training([table()], student, inner=OPTIMISERS["nesterov"])
    assert problem.start().parameters[0].numel() == 8 + (8 * CLASSES + CLASSES) + (CLASSES * CLASSES + CLASSES)
    before = [p.detach().clone() for p in student.parameters()]
    directions = random_directions(problem)
    truth = central_difference(problem, problem.start(), directions)
    found = Unrolled().hypergradient(problem, problem.start())
    assert relative((along(found.value, directions),), (truth,)) < 1e-6
    assert all(torch.equal(p, kept) for p, kept in zip(student.parameters(), before, strict=True))


def test_the_error_of_an_exact_method_is_rounding_and_of_a_truncated_one_is_not():
    torch.manual_seed(4)
    problem = training([table()], smooth_student(), steps=10)
    assert hypergradient_error(Unrolled(memory="checkpoints"), problem, problem.start()) < 1e-12
    assert hypergradient_error(Unrolled(truncate=1), problem, problem.start()) > 1e-2


def test_a_byte_budget_is_kept_or_refused():
    problem = training([table()], smooth_student(), steps=100)
    state = problem.start()
    assert Unrolled(memory=100 * state.size_bytes)._spacing(100, state.size_bytes) == 1
    assert Unrolled(memory=60 * state.size_bytes)._spacing(100, state.size_bytes) == 2
    with pytest.raises(InputError, match="needs at least") as caught:
        Unrolled(memory=10 * state.size_bytes).hypergradient(problem, state)
    assert caught.value.needed_bytes <= 21 * state.size_bytes


@pytest.mark.parametrize(
    "settings", [{"memory": "some"}, {"truncate": 0}, {"memory": "full", "backward_dtype": torch.float64}]
)
def test_settings_without_meaning_are_refused(settings):
    with pytest.raises(InputError):
        Unrolled(**settings)
