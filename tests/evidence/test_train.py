"""Training many students at once gives what training each alone with torch.optim gives."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from commentary_hub.data import Examples, content_keys
from commentary_hub.errors import EvidenceError
from commentary_hub.evidence import Arm, TunedAdam, TunedSGD
from commentary_hub.evidence._arms import Lessons, minibatches
from commentary_hub.evidence._optimisers import decayed
from commentary_hub.evidence._train import Budget, stackable, summed_loss, train

CLASSES, N = 4, 60


@dataclass(frozen=True)
class Student:
    name: str
    build: Any


def blobs(count=N, seed=0, noise=0.6):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % CLASSES
    centres = torch.randn(CLASSES, 16, generator=torch.Generator().manual_seed(99))
    inputs = centres[targets] + noise * torch.randn(count, 16, generator=generator)
    return Examples.of(inputs, targets, keys=content_keys(inputs.numpy()), classes=tuple("abcd"))


def mlp():
    return nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, CLASSES))


def normalised():
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)),
        nn.Conv2d(1, 3, 3, padding=1, bias=False),  # a bias before normalisation has no gradient but rounding,
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, 8, bias=False),  # which Adam would blow up to whole steps
        nn.BatchNorm1d(8, momentum=0.3),
        nn.Linear(8, CLASSES),
    )


def tied():
    module = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, CLASSES))
    module[2].weight = module[0].weight
    return module


def dropped():
    return nn.Sequential(nn.Linear(16, 12), nn.Dropout(0.5), nn.Linear(12, CLASSES))


def by_hand(build, arm, seed, rate, budget, test):
    """The oracle: the ordinary loop, written as anybody would, in the notation of torch alone."""
    torch.manual_seed(seed)
    student = build()
    if isinstance(budget.optimiser, TunedSGD):
        own = budget.optimiser
        optimiser = torch.optim.SGD(
            student.parameters(), rate, own.momentum, nesterov=own.nesterov, weight_decay=own.weight_decay
        )
    else:
        own = budget.optimiser
        optimiser = torch.optim.AdamW(student.parameters(), rate, own.betas, own.eps, own.weight_decay)
    order = minibatches(len(arm.examples), budget.batch_size, budget.steps, seed)
    for step in range(budget.steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * decayed(budget.schedule, step, budget.steps)
        rows = order[step]
        losses = nn.functional.cross_entropy(
            student(arm.examples.inputs[rows]),
            arm.examples.targets[rows],
            reduction="none",
            label_smoothing=arm.smoothing,
        )
        weights = torch.ones(N) if arm.weights is None else arm.weights
        loss = (losses * weights[rows]).sum() / weights[rows].sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    student.eval()
    with torch.no_grad():
        return student(test.inputs)


ARMS = {
    "plain": {},
    "weighted": {"weights": torch.rand(N, generator=torch.Generator().manual_seed(5)), "reduction": "weight_mean"},
    "smoothed": {"smoothing": 0.2},
}


@pytest.mark.parametrize("build", [mlp, normalised], ids=["mlp", "batch_norm"])
@pytest.mark.parametrize(
    ("optimiser", "schedule", "arm"),
    [
        (TunedSGD(momentum=0.0), "constant", "plain"),
        (TunedSGD(momentum=0.9, weight_decay=0.01), "cosine", "weighted"),
        (TunedSGD(momentum=0.9, nesterov=True), "constant", "smoothed"),
        (TunedAdam(), "constant", "plain"),
        (TunedAdam(weight_decay=0.1), "cosine", "weighted"),
    ],
)
def test_a_stack_of_students_is_trained_as_each_alone(build, optimiser, schedule, arm):
    examples, test = blobs(), blobs(20, seed=1)
    arm = Arm("arm", examples, **ARMS[arm])
    budget = Budget(12, 16, optimiser, schedule)
    rates = [0.01, 0.05]
    options = {"seeds": [3, 8], "rates": rates, "budget": budget, "classes": CLASSES, "at": (0, 12)}
    probes = {"test": (test.inputs, test.targets)}
    together = train(Student("s", build), arm, probes=probes, stacked=True, **options)
    alone = train(Student("s", build), arm, probes=probes, stacked=False, **options)
    for number, (seed, rate) in enumerate([(seed, rate) for seed in (3, 8) for rate in rates]):
        expected = by_hand(build, arm, seed, rate, budget, test)
        torch.testing.assert_close(together.outputs["test"][number], expected, rtol=2e-4, atol=2e-5)
        torch.testing.assert_close(alone.outputs["test"][number], expected, rtol=2e-4, atol=2e-5)
        accuracy = (expected.argmax(1) == test.targets).double().mean()
        assert together.accuracy["test"][number, -1] == pytest.approx(float(accuracy), abs=0.051)
    assert not together.diverged.any()


def test_a_students_run_does_not_depend_on_its_company():
    arm, test, budget = Arm("arm", blobs()), blobs(20, seed=1), Budget(10, 16, TunedSGD())
    options = {"budget": budget, "classes": CLASSES, "probes": {"t": (test.inputs, test.targets)}, "at": (10,)}
    for build, stacked in [(normalised, True), (dropped, None), (tied, None)]:
        student = Student("s", build)
        many = train(student, arm, seeds=[1, 2, 3], rates=[0.1, 0.2], stacked=stacked, **options)
        one = train(student, arm, seeds=[2], rates=[0.2], stacked=stacked, **options)
        torch.testing.assert_close(many.outputs["t"][3], one.outputs["t"][0], rtol=1e-4, atol=1e-5)
        again = train(student, arm, seeds=[1, 2, 3], rates=[0.1, 0.2], stacked=stacked, **options)
        assert torch.equal(many.outputs["t"], again.outputs["t"])
        assert not torch.equal(many.outputs["t"][1], many.outputs["t"][3])


def test_what_cannot_be_stacked_is_known():
    lessons = Lessons(Arm("arm", blobs()), [0], classes=CLASSES, steps=1, batch_size=8, device=torch.device("cpu"))

    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, CLASSES)

        def forward(self, inputs):
            outputs = self.layer(inputs)
            return outputs if outputs.sum() > 0 else -outputs

    verdicts = {build.__name__: stackable(build(), lessons(0)) for build in (mlp, normalised, tied, dropped, Branching)}
    assert verdicts == {"mlp": True, "normalised": True, "tied": False, "dropped": False, "Branching": False}


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    train(
        Student("s", dropped),
        Arm("arm", blobs()),
        seeds=[0],
        rates=[0.1],
        budget=Budget(3, 8, TunedSGD()),
        classes=CLASSES,
        probes={},
        at=(),
    )
    assert torch.equal(torch.rand(3), expected)


def test_a_student_that_draws_by_itself_follows_its_seed():
    """Dropout by a function, as attention and recurrent layers have it, shows in no module."""

    class Drawing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, CLASSES)

        def forward(self, inputs):
            return self.layer(nn.functional.dropout(inputs, 0.5, self.training))

    test = blobs(20, seed=1)
    options = {"seeds": [0], "rates": [0.1], "budget": Budget(3, 8, TunedSGD()), "classes": CLASSES, "at": (3,)}
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        trained = train(Student("s", Drawing), Arm("a", blobs()), probes={"t": (test.inputs, test.targets)}, **options)
        found.append(trained.outputs["t"])
    assert torch.equal(*found)


def test_what_an_arm_puts_around_a_student_leaves_its_initialisation_alone():
    test = blobs(20, seed=1)
    options = {"seeds": [0], "rates": [0.1], "budget": Budget(1, 8, TunedSGD()), "classes": CLASSES, "at": (0,)}

    class Around(nn.Module):
        def __init__(self, student):
            super().__init__()
            self.student = student
            self.gate = nn.Linear(16, 16)

        def forward(self, inputs):
            return self.student(inputs)

    plain = train(Student("s", mlp), Arm("a", blobs()), probes={"t": (test.inputs, test.targets)}, **options)
    arm = Arm("b", blobs(), wrap=Around)
    around = train(Student("s", mlp), arm, probes={"t": (test.inputs, test.targets)}, **options)
    assert torch.equal(plain.outputs["t"], around.outputs["t"])


def test_trimming_leaves_the_highest_losses_out():
    outputs = torch.randn(10, CLASSES, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(10) % CLASSES
    losses = nn.functional.cross_entropy(outputs, targets, reduction="none")
    soft = nn.functional.one_hot(targets, CLASSES).float()
    trimmed = summed_loss(outputs, soft, torch.tensor(0.1), 0.3)
    torch.testing.assert_close(trimmed, losses.sort().values[:7].mean())
    torch.testing.assert_close(summed_loss(outputs, soft, torch.tensor(0.1), 0.0), losses.mean())


def test_divergence_is_seen_and_kept_to_its_student():
    test = blobs(20, seed=1)
    options = {"seeds": [0], "rates": [0.1, 1e30], "budget": Budget(9, 8, TunedSGD()), "classes": CLASSES, "at": (9,)}
    for stacked in (True, False):
        arm = Arm("a", blobs())
        trained = train(Student("s", mlp), arm, probes={"t": (test.inputs, test.targets)}, stacked=stacked, **options)
        assert trained.diverged.tolist() == [False, True]
        assert trained.accuracy["t"][0, -1] > 0.5


def test_a_student_with_other_outputs_is_refused():
    wrong = Student("wide", lambda: nn.Linear(16, CLASSES + 1))
    with pytest.raises(EvidenceError, match=r"'wide' answers \[8, 5\]"):
        train(
            wrong,
            Arm("a", blobs()),
            seeds=[0],
            rates=[0.1],
            budget=Budget(1, 8, TunedSGD()),
            classes=CLASSES,
            probes={},
            at=(),
        )
