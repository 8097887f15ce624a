"""The same numbers on a CUDA device as on the CPU: methods, outer loop, kinds, reuse, evidence and the command line.

Skipped where torch sees no such device.
"""

from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from commentary_hub import artefact
from commentary_hub.commentaries import (
    AttentionMask,
    Batch,
    ExampleWeights,
    LabelBlend,
    MixtureWeights,
    WeightNetwork,
    commented_loss,
)
from commentary_hub.data import content_keys, target_digests
from commentary_hub.errors import Interrupted
from commentary_hub.evidence import compare, hardware, standard_arms
from commentary_hub.learning import (
    SGD,
    Adam,
    AdamW,
    ConjugateGradient,
    Episodes,
    Identity,
    Implicit,
    Neumann,
    Population,
    Student,
    Unrolled,
    learn,
    learn_episodes,
)
from commentary_hub.learning._twice import TwiceDifferentiable
from commentary_hub.reuse import bind
from tests.cli.test_evaluate import RECIPE
from tests.cli.test_evaluate import run as command
from tests.evidence import test_compare
from tests.learning import test_few_shot
from tests.problems import (
    CLASSES,
    TinyMask,
    TinyWeights,
    blobs,
    relative,
    smooth_convolutions,
    smooth_student,
    table,
    training,
)
from tests.reuse.bound import stored

DEVICE = torch.device("cuda")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")

INNER = {
    "sgd": SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "clipped": SGD(lr=0.5, momentum=0.5, clip_norm=0.3, schedule=lambda step: 1 / (1 + step)),
    "adam": Adam(lr=0.02, eps_root=1e-8),
    "adamw": AdamW(lr=0.02, eps_root=1e-8, weight_decay=0.1),
}
METHODS = {
    "full": Unrolled(memory="full"),
    "stored": Unrolled(),
    "checkpoints": Unrolled(memory="checkpoints"),
    "bytes": Unrolled(memory=20_000),
    "truncated": Unrolled(truncate=3),
    "neumann": Implicit(Neumann(terms=3, scale=0.1)),
    "conjugate gradients": Implicit(ConjugateGradient(steps=4, damping=10.0)),
    "identity": Implicit(Identity(scale=0.1)),
}
FLAT = {
    "table": lambda: [table(stages=3)],
    "network": lambda: [TinyWeights(6)],
    "weights and mask": lambda: [table(), TinyMask(6)],
    "blend": lambda: [LabelBlend(CLASSES)],
}


def moved(problem):
    """The same problem on the device."""
    names = ("inputs", "targets", "batches", "validation_inputs", "validation_targets")
    return replace(
        problem,
        student=deepcopy(problem.student).to(DEVICE),
        commentaries=tuple(deepcopy(one).to(DEVICE) for one in problem.commentaries),
        **{name: getattr(problem, name).to(DEVICE) for name in names},
    )


def back(tensors):
    tensors = tuple(tensors)
    assert {t.device.type for t in tensors} == {DEVICE.type}
    return tuple(t.cpu() for t in tensors)


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", FLAT)
def test_hypergradients_are_the_cpus(kind, method, inner):
    torch.manual_seed(1)
    student = smooth_student(norm=isinstance(METHODS[method], Unrolled))
    problem = training(FLAT[kind](), student, inner=INNER[inner])
    other = moved(problem)
    truth = METHODS[method].hypergradient(problem, problem.start())
    found = METHODS[method].hypergradient(other, other.start())
    assert relative(back(found.value), truth.value) < 1e-9
    assert relative(back(found.state.parameters), truth.state.parameters) < 1e-9


def test_replay_is_exact_through_dropout_normalisation_and_convolutions():
    torch.manual_seed(1)
    problem = moved(training([table()], smooth_convolutions(dropout=0.3), shape=(2, 5, 5), inner=SGD(lr=0.1)))
    full = Unrolled(memory="full").hypergradient(problem, problem.start())
    caller = torch.cuda.get_rng_state(), torch.get_rng_state()
    for memory in ("stored", "checkpoints"):
        found = Unrolled(memory=memory).hypergradient(problem, problem.start())
        assert relative(back(found.value), back(full.value)) < 1e-10
    assert all(map(torch.equal, caller, (torch.cuda.get_rng_state(), torch.get_rng_state())))


def test_a_float64_sweep_repairs_float32():
    torch.manual_seed(1)
    problem = training([table()], smooth_student(), inner=Adam(lr=0.02, eps_root=1e-8), steps=40)
    other = moved(problem)
    other = replace(
        other, student=other.student.float(), commentaries=tuple(one.float() for one in other.commentaries),
        inputs=other.inputs.float(), validation_inputs=other.validation_inputs.float(),
    )  # fmt: skip
    truth = Unrolled().hypergradient(problem, problem.start())
    swept = Unrolled(backward_dtype=torch.float64).hypergradient(other, other.start())
    assert relative(back(swept.value), truth.value) < 1e-3


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_own_second_derivatives_are_torchs_there(memory_format):
    torch.manual_seed(3)
    student = smooth_convolutions().double().to(DEVICE)
    inputs = torch.randn(4, 2, 5, 5, dtype=torch.float64, device=DEVICE).to(memory_format=memory_format)
    inputs.requires_grad_()
    leaves = (inputs, *student.parameters())
    directions = [torch.randn_like(leaf) for leaf in leaves]
    found = []
    for mode in (TwiceDifferentiable(), nullcontext()):
        with mode:
            assert ("_Convolution" in student[0](inputs).grad_fn.name()) is isinstance(mode, TwiceDifferentiable)
            outputs = student(inputs)
        first = torch.autograd.grad(outputs.sin().sum(), leaves, create_graph=True)
        along = sum((one * way).sum() for one, way in zip(first, directions, strict=True))
        second = torch.autograd.grad(along, leaves, allow_unused=True)
        found.append([*first, *(one for one in second if one is not None)])
    assert relative(back(t.detach() for t in found[0]), back(t.detach() for t in found[1])) < 1e-11


@pytest.mark.parametrize("commentary", [
    lambda: WeightNetwork("mlp", settings={"inputs": 18, "hidden": [5], "smooth": True}, labels="input", classes=3),
    lambda: LabelBlend(CLASSES),
    lambda: AttentionMask(2, settings={"width": 2, "kernel": 3, "pool": 1}, sigma=1.0, learn_sigma=True),
    lambda: MixtureWeights(("a", "b"), row_sources=torch.arange(12) % 2),
    lambda: ExampleWeights(rows=12, stages=2),
], ids=["network", "blend", "mask", "mixture", "table"])  # fmt: skip
def test_every_kind_computes_there(commentary):
    torch.manual_seed(2)
    one = commentary().double()
    inputs, targets = torch.randn(5, 2, 3, 3, dtype=torch.float64), torch.arange(5) % CLASSES
    weight = torch.randn(18, CLASSES, dtype=torch.float64)
    found = []
    for device in ("cpu", DEVICE):
        here = deepcopy(one).to(device)
        rows = torch.tensor([3, 0, 11, 7, 4], device=device)
        batch = here(Batch(inputs.to(device), targets.to(device), rows=rows, seed=4), 0.7)
        loss = commented_loss(batch.inputs.flatten(1) @ weight.to(device), batch, reduction="sum")
        gradients = torch.autograd.grad(loss, tuple(here.parameters()), allow_unused=True)
        found.append(tuple(g.detach().cpu() for g in (loss, *gradients) if g is not None))
    assert len(found[0]) > 1
    assert relative(found[1], found[0]) < 1e-10


def learned(device, **options):
    data = blobs(wrong=0.4)
    settings = {
        "train": data.train, "validation": data.validation, "method": Unrolled(), "inner": SGD(lr=0.5),
        "inner_steps": 8, "batch_size": 12, "outer_steps": 6, "seed": 3,
        "population": Population(size=2, fresh_every=2),
    }  # fmt: skip
    students = [Student("mlp", smooth_student), Student("linear", lambda: nn.Linear(6, CLASSES))]
    return learn(ExampleWeights(rows=len(data.train)), students, device=device, **settings | options)


def test_learning_there_finds_what_the_cpu_finds_and_hands_it_over_on_the_cpu():
    ours, other = learned("cpu"), learned(DEVICE)
    assert other.cost.device == torch.cuda.get_device_name(DEVICE)
    for found, truth in ((other.commentary.values(), ours.commentary.values()),
                         (other.statistics["mean"], ours.statistics["mean"])):  # fmt: skip
        assert found.device.type == "cpu"
        torch.testing.assert_close(found, truth, rtol=1e-3, atol=1e-3)
    losses = [[line["outer_loss"] for line in one.history] for one in (ours, other)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_run_there_that_was_stopped_goes_on_and_leaves_the_callers_generators():
    kept = []

    def stop(report):
        if report.step == 3:
            raise KeyboardInterrupt

    before = torch.cuda.get_rng_state()
    whole = learned(DEVICE)
    with pytest.raises(Interrupted):
        learned(DEVICE, sink=kept.append, progress=stop)
    assert {t.device.type for t in kept[-1].tensors.values()} == {"cpu"}
    resumed = learned(DEVICE, resume=kept[-1])
    torch.testing.assert_close(resumed.commentary.logits, whole.commentary.logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_few_shot_learning_there():
    train, held = (
        Episodes(test_few_shot.examples(first=first, seed=first), ways=3, shots=3, queries=4, wrong=0.3)
        for first in (0, 8)
    )
    found = [
        learn_episodes(
            Student("small", test_few_shot.Small), train=train, validation=held, adaptation=test_few_shot.MAML,
            commentary=test_few_shot.support_weights(), outer_steps=4, tasks=2, validate_every=2, validation_tasks=2,
            seed=1, device=device,
        )
        for device in ("cpu", DEVICE)
    ]  # fmt: skip
    ours, theirs = (tuple(p.detach() for p in one.learned.commentary.parameters()) for one in found)
    assert relative(theirs, ours) < 1e-3
    assert torch.equal(*(one.accuracies(held, range(3)) for one in found))


def test_training_with_a_stored_commentary_on_batches_there(tmp_path):
    inputs, targets = torch.rand(48, 4), torch.arange(48) % 3
    one = stored(tmp_path, content_keys(inputs), target_digests(targets), logits=torch.linspace(-2, 2, 48))
    losses = []
    for device in ("cpu", DEVICE):
        torch.manual_seed(0)
        student = nn.Linear(4, 3).to(device)
        binding = bind(one, TensorDataset(inputs, targets))
        rows, there = torch.arange(48), (inputs.to(device), targets.to(device))
        losses += [binding.loss(student, *there, own).item() for own in (rows, rows.to(device))]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-5)


@pytest.mark.parametrize("student", [test_compare.MLP, test_compare.WIDE], ids=lambda one: one.name)
def test_a_comparison_there_says_the_same(student):
    arms = standard_arms(test_compare.NOISY, test_compare.TRUSTED, test_compare.RIGHT)
    ours, theirs = (
        compare(arms, [student], seeds=4, tuning_seeds=1, device=device, **test_compare.SETTINGS)
        for device in ("cpu", DEVICE)
    )
    for arm in ours.arms:
        means = [torch.tensor(one.accuracies(student.name, arm)).mean() for one in (ours, theirs)]
        torch.testing.assert_close(means[1], means[0], rtol=0, atol=0.03)


def test_the_command_line_there(tmp_path):
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out"
    recipe.write_text(RECIPE)
    for arguments in (
        ("learn", recipe, "--out", out, "--check", "--device", "cuda"),
        ("learn", recipe, "--out", out, "--device", "cuda"),
        ("evaluate", out, "--device", "cuda"),
    ):
        done = command(*arguments)
        assert done.exit_code == 0, done.output
    one = artefact.load(out)
    assert one.manifest.cost.device == torch.cuda.get_device_name(DEVICE)
    assert one.evidence.hardware == hardware(DEVICE)
