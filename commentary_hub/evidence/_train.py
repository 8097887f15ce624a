"""Training many students at once: seeds × learning rates of one architecture as one batched computation.

``torch.func`` turns the loss of one student into that of a stack: parameters, buffers and batches get a leading axis
over students, so that batch normalisation still sees the batch of its own student only. What cannot be batched
(dropout draws from one generator for all; modules that branch on values) is trained one student after the other, with
`torch.optim`; the numbers are the same up to rounding.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from commentary_hub.errors import CommentaryHubError, EvidenceError
from commentary_hub.evidence._arms import Arm, Lesson, Lessons
from commentary_hub.evidence._optimisers import Schedule, TunedOptimiser, decayed

_DRAWING = threading.Lock()  # students are drawn from torch's global generator, of which there is one
_EVALUATED_AT_ONCE = 1 << 14
_RANDOM = nn.modules.dropout._DropoutNd


class StudentLike(Protocol):
    """A student architecture: a name, and fresh initialisations drawn from torch's global generator."""

    @property
    def name(self) -> str:
        """The name in tables."""
        ...

    @property
    def build(self) -> Callable[[], nn.Module]:
        """Makes a fresh student."""
        ...


@dataclass(frozen=True, slots=True)
class Budget:
    """What every arm gets: ``steps`` of ``batch_size`` examples, one optimiser, one schedule of the learning rate."""

    steps: int
    batch_size: int
    optimiser: TunedOptimiser
    schedule: Schedule = "constant"


@dataclass(frozen=True, slots=True)
class Trained:
    """K = seeds × rates students, rates running fastest.

    ``accuracy[probe]`` [K, P] at the P steps asked for; after the last step ``outputs[probe]`` [K, n, classes];
    ``diverged`` bool [K] where parameters are not finite.
    """

    accuracy: dict[str, Tensor]
    outputs: dict[str, Tensor]
    diverged: Tensor


Probes = Mapping[str, tuple[Tensor, Tensor]]


@contextmanager
def _seeded(seed: int, place: torch.device) -> Iterator[None]:
    """Everything drawn inside follows ``seed`` alone; torch's global generators are left as they were."""
    with _DRAWING, torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if place.type == "cuda":
            with torch.cuda.device(place):
                torch.cuda.manual_seed(seed)
        yield


def train(
    student: StudentLike,
    arm: Arm,
    *,
    seeds: Sequence[int],
    rates: Sequence[float],
    budget: Budget,
    classes: int,
    probes: Probes,
    at: Sequence[int],
    device: torch.device | str = "cpu",
    stacked: bool | None = None,
) -> Trained:
    """Train a student for each seed and rate, and measure accuracy on ``probes`` (name → inputs, targets).

    ``at`` are steps (0 = untrained … ``budget.steps``) at which all probes are measured, increasing, the last one
    being ``budget.steps``. Seeds decide initialisation and batches, so that the same seed in another arm is its pair.
    ``stacked`` forces the way (default: stacked where the student allows it). Cost: K · steps student steps.
    """
    place = torch.device(device)
    lessons = Lessons(arm, seeds, classes=classes, steps=budget.steps, batch_size=budget.batch_size, device=place)
    shown = {name: (arm.seen(inputs).to(place), targets.to(place)) for name, (inputs, targets) in probes.items()}
    wrap = arm.wrap or (lambda module: module)
    modules = []
    for seed in seeds:
        with _seeded(seed, place):  # the student first: what is put around it changes nothing in its initialisation
            modules.append(wrap(student.build()).to(place))
    _check_outputs(student, modules[0], lessons(0), classes)
    ways = stackable(modules[0], lessons(0)) if stacked is None else stacked
    loop = _train_stacked if ways else _train_alone
    return loop(modules, seeds, rates, lessons, budget, arm.trimmed, shown, tuple(at))


def check_student(student: StudentLike, arm: Arm, seeds: Sequence[int], classes: int) -> None:
    """Raise `EvidenceError` where a student cannot be built, or gives no [B, classes] for two examples of ``arm``."""
    place = torch.device("cpu")
    lesson = Lessons(arm, seeds[:1], classes=classes, steps=1, batch_size=2, device=place)(0)
    try:
        with _seeded(seeds[0], place):
            module = (arm.wrap or (lambda one: one))(student.build())
        _check_outputs(student, module, lesson, classes)
    except CommentaryHubError:
        raise
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise EvidenceError(
            f"student {student.name!r} cannot answer examples {list(lesson.inputs.shape[2:])}: {error}",
            student=student.name,
        ) from error


def stackable(module: nn.Module, lesson: Lesson) -> bool:
    """Whether ``torch.func`` can train copies of this module at once with the same result as alone."""
    if any(isinstance(part, _RANDOM) for part in module.modules()):
        return False
    names = [id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False)]
    if len(set(names)) < len(names):  # tied parameters would come apart
        return False
    trial = _Stack([copy.deepcopy(module), copy.deepcopy(module)])
    pair = Lesson(*(part[:1].expand(2, *part.shape[1:]) for part in (lesson.inputs, lesson.targets, lesson.scale)))
    try:
        trial.gradients(pair, 0.0)
    except (RuntimeError, ValueError, NotImplementedError):  # what torch.func raises for what it cannot batch
        return False
    return True


class _Stack:
    """Modules of one architecture as one: parameters and buffers [K, ...]."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.parameters, self.buffers = stack_module_state(list(modules))
        self.parameters = {name: value.detach() for name, value in self.parameters.items()}
        self._skeleton = copy.deepcopy(modules[0])

    def gradients(self, lesson: Lesson, trimmed: float) -> dict[str, Tensor]:
        """The gradient of every student's loss in its own parameters; running statistics move as in training."""
        module = self._skeleton.train()

        def loss(
            parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor, targets: Tensor, scale: Tensor
        ) -> Tensor:
            return summed_loss(functional_call(module, (parameters, buffers), (inputs,)), targets, scale, trimmed)

        gradients: dict[str, Tensor] = vmap(grad(loss), randomness="error")(
            self.parameters, self.buffers, lesson.inputs, lesson.targets, lesson.scale
        )
        return gradients

    @torch.no_grad()
    def outputs(self, inputs: Tensor) -> Tensor:
        """What all students answer [K, n, classes], in evaluation mode."""
        module = self._skeleton.eval()

        def answer(parameters: dict[str, Tensor], buffers: dict[str, Tensor], part: Tensor) -> Tensor:
            outputs: Tensor = functional_call(module, (parameters, buffers), (part,))
            return outputs

        count = len(next(iter(self.parameters.values())))
        ask = vmap(answer, in_dims=(0, 0, None))
        size = max(1, _EVALUATED_AT_ONCE // count)
        return torch.cat([ask(self.parameters, self.buffers, part) for part in torch.split(inputs, size)], dim=1)


def summed_loss(outputs: Tensor, targets: Tensor, scale: Tensor, trimmed: float) -> Tensor:
    """Return scale · Σ_i ℓ_i with ℓ_i = −Σ_c targets[i, c] · log softmax(outputs[i])_c.

    With ``trimmed`` the ⌊trimmed · B⌋ highest losses of the batch are left out and the scale is raised to match.
    """
    losses = -(targets * outputs.log_softmax(-1)).sum(-1)
    left_out = int(trimmed * losses.shape[0])
    if left_out:
        kept = losses.shape[0] - left_out
        return losses.sort().values[:kept].sum() * scale * (losses.shape[0] / kept)
    return losses.sum() * scale


def _train_stacked(
    modules: Sequence[nn.Module],
    seeds: Sequence[int],
    rates: Sequence[float],
    lessons: Lessons,
    budget: Budget,
    trimmed: float,
    probes: Probes,
    at: tuple[int, ...],
) -> Trained:
    stack = _Stack([module for module in modules for _ in rates])
    place = next(iter(stack.parameters.values())).device
    all_rates = torch.tensor(list(rates) * len(seeds), device=place)
    state: dict[str, Tensor] = {}
    measured = _Measured(probes)
    for step in range(budget.steps + 1):
        if step in at:
            measured.add(stack.outputs)
        if step == budget.steps:
            break
        lesson = lessons(step)
        if len(rates) > 1:
            parts = (lesson.inputs, lesson.targets, lesson.scale)
            lesson = Lesson(*(part.repeat_interleave(len(rates), 0) for part in parts))
        gradients = stack.gradients(lesson, trimmed)
        now = all_rates * decayed(budget.schedule, step, budget.steps)
        budget.optimiser.step(stack.parameters, gradients, state, now, step + 1)
    finite = torch.stack([value.reshape(len(value), -1).isfinite().all(1) for value in stack.parameters.values()]).all(
        0
    )
    return measured.trained(~finite.cpu())


def _train_alone(
    modules: Sequence[nn.Module],
    seeds: Sequence[int],
    rates: Sequence[float],
    lessons: Lessons,
    budget: Budget,
    trimmed: float,
    probes: Probes,
    at: tuple[int, ...],
) -> Trained:
    students = [copy.deepcopy(module) for module in modules for _ in rates]
    optimisers = [
        budget.optimiser.alone(student.parameters(), rates[number % len(rates)])
        for number, student in enumerate(students)
    ]
    place = next(modules[0].parameters()).device
    measured = _Measured(probes)
    for step in range(budget.steps + 1):
        if step in at:
            measured.add(lambda inputs: torch.stack([_answered(student, inputs) for student in students]))
        if step == budget.steps:
            break
        lesson = lessons(step)
        for number, student in enumerate(students):
            own = number // len(rates)
            for group in optimisers[number].param_groups:
                group["lr"] = rates[number % len(rates)] * decayed(budget.schedule, step, budget.steps)
            with _seeded(seeds[own] * budget.steps + step, place):  # it may draw, as dropout does
                outputs = student.train()(lesson.inputs[own])
            optimisers[number].zero_grad(set_to_none=True)
            summed_loss(outputs, lesson.targets[own], lesson.scale[own], trimmed).backward()  # type: ignore[no-untyped-call]
            optimisers[number].step()
    diverged = [not all(bool(p.isfinite().all()) for p in student.parameters()) for student in students]
    return measured.trained(torch.tensor(diverged))


class _Measured:
    """Accuracies on the probes, gathered while training goes on."""

    def __init__(self, probes: Probes) -> None:
        self._probes = probes
        self._accuracy: dict[str, list[Tensor]] = {name: [] for name in probes}
        self._last: dict[str, Tensor] = {}

    def add(self, ask: Callable[[Tensor], Tensor]) -> None:
        for name, (inputs, targets) in self._probes.items():
            self._last[name] = ask(inputs)
            self._accuracy[name].append((self._last[name].argmax(-1) == targets).double().mean(1).cpu())

    def trained(self, diverged: Tensor) -> Trained:
        accuracy = {name: torch.stack(values, 1) for name, values in self._accuracy.items()}
        return Trained(accuracy, {name: value.cpu() for name, value in self._last.items()}, diverged)


@torch.no_grad()
def _answered(student: nn.Module, inputs: Tensor) -> Tensor:
    student.eval()
    return torch.cat([student(part) for part in torch.split(inputs, 1024)])


def _check_outputs(student: StudentLike, module: nn.Module, lesson: Lesson, classes: int) -> None:
    with torch.no_grad():
        outputs = copy.deepcopy(module).eval()(lesson.inputs[0])
    if outputs.shape != (lesson.inputs.shape[1], classes):
        raise EvidenceError(
            f"student {student.name!r} answers {list(outputs.shape)} for a batch of {lesson.inputs.shape[1]}, expected "
            f"[{lesson.inputs.shape[1]}, {classes}]: one number for each class",
            student=student.name,
        )
