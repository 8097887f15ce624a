"""A learning run between its steps: a population of students that come and go, and a commentary that stays."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from commentary_hub.commentaries import Commentary, Criterion, Reduction
from commentary_hub.data import Examples
from commentary_hub.errors import InputError
from commentary_hub.learning._averages import Averages
from commentary_hub.learning._checkpoint import (
    Checkpoint,
    check_same_run,
    check_same_start,
    describe_values,
    pack_module,
    pack_optimiser,
    pack_student,
    unpack_module,
    unpack_optimiser,
    unpack_student,
)
from commentary_hub.learning._hypergradient import Hypergradient, Method
from commentary_hub.learning._optimisers import InnerOptimiser, Tensors
from commentary_hub.learning._problem import Augmentation, State, Training, advance, draw_batches, own_generators
from commentary_hub.learning._progress import Report
from commentary_hub.learning._result import (
    Student,
    as_json,
    describe_commentary,
    describe_examples,
    describe_function,
    describe_optimiser,
    describe_parameters,
)
from commentary_hub.learning._schedules import advance_scheduler


@dataclass(frozen=True)
class Population:
    """Which students teach the commentary: what makes it transfer.

    Every outer step takes the mean hypergradient of ``size`` students (architectures in turn, each with its own
    initialisation and batches). After ``fresh_every`` outer steps a new student takes a student's place; until then it
    goes on training; with more than one student their ages are staggered. ``warm_up`` inner steps, under the commentary
    as it is, precede a new student's first hypergradient.
    """

    size: int = 1
    fresh_every: int = 1
    warm_up: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or self.fresh_every < 1 or self.warm_up < 0:
            raise InputError(
                f"population of {self.size}, fresh every {self.fresh_every}, warm-up {self.warm_up}: size and "
                "fresh_every must be at least 1, warm_up at least 0"
            )


@dataclass
class Run:
    """A learning run between its steps."""

    commentaries: tuple[Commentary, ...]
    students: tuple[Student, ...]
    train: Examples
    validation: Examples
    method: Method
    inner: InnerOptimiser
    inner_steps: int
    batch_size: int
    outer_steps: int
    reduction: Reduction
    criterion: Criterion
    outer_batch_size: int | None
    population: Population
    clip_norm: float | None
    seed: int
    device: torch.device
    augmentation: Augmentation | None
    optimiser: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    averages: Averages
    early_stop: tuple[int, float] | None = None  # patience and least: the loop's affair, named in the identity alone
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    states: dict[int, State] = field(default_factory=dict)
    warm: dict[int, Tensors] = field(default_factory=dict)
    modules: dict[int, nn.Module] = field(default_factory=dict)
    parameters: dict[int, str] = field(default_factory=dict)  # of each architecture that was tried

    @property
    def domain(self) -> int:
        """T of progress i/T: the age a student reaches."""
        return self.population.warm_up + self.inner_steps * self.population.fresh_every

    def advance(self) -> Report:
        """One outer step."""
        gradients = [self._teach(member) for member in range(self.population.size)]
        parameters = [p for one in self.commentaries for p in one.parameters() if p.requires_grad]
        for index, parameter in enumerate(parameters):
            parameter.grad = torch.stack([one.value[index] for one in gradients]).mean(0)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm or float("inf"))
        self.optimiser.step()
        loss = sum(one.outer_loss for one in gradients) / len(gradients)
        advance_scheduler(self.scheduler, loss)
        self.step += 1
        self.averages.add(self.commentaries, self.step)
        residuals = [one.residual for one in gradients if one.residual is not None]
        line = {"outer_loss": loss, "hypergradient_norm": float(norm)}
        if residuals:
            line["residual"] = sum(residuals) / len(residuals)
        self.history.append(line)
        return Report(step=self.step, steps=self.outer_steps, **line)

    def _teach(self, member: int) -> Hypergradient:
        """One student's hypergradient; the student goes on from where it was, or begins."""
        generation, age = self._age(member)
        module = self._module(member, generation)
        problem = self._problem(member, generation, age, module)
        state = self.states.get(member)
        if state is None or age == 0:
            state = self._begin(problem)
            self.warm.pop(member, None)
        found = self.method.hypergradient(problem, state, warm=self.warm.get(member))
        self.states[member] = found.state
        if found.solution is not None:
            self.warm[member] = found.solution
        return found

    def _age(self, member: int) -> tuple[int, int]:
        """(generation, outer steps lived) of a member; first lives are shortened so that ages stay staggered."""
        every = self.population.fresh_every
        generation, age = divmod(self.step + member * every // self.population.size, every)
        return generation, age if generation else self.step

    def _module(self, member: int, generation: int) -> nn.Module:
        """The member's architecture with the initialisation of its generation."""
        if self._age(member)[1] == 0 or member not in self.modules:
            kind = self.students[(member + generation * self.population.size) % len(self.students)]
            with own_generators(self.device, mix(self.seed, 1, member, generation)):
                self.modules[member] = kind.build().to(self.device)
        return self.modules[member]

    def trial(self, index: int) -> Training:
        """The problem of a student of architecture ``index``, to be tried before the run."""
        with own_generators(self.device, mix(self.seed, 1, index, 0)):
            module = self.students[index].build().to(self.device)
        self.parameters[index] = describe_parameters(module)
        return self._problem(0, 0, 0, module)

    def _problem(self, member: int, generation: int, age: int, module: nn.Module) -> Training:
        inputs, targets = self.validation.inputs, self.validation.targets
        if self.outer_batch_size is not None:
            drawn = draw_batches(len(targets), self.outer_batch_size, 1, seed=mix(self.seed, 2, member, self.step))[0]
            inputs, targets = inputs[drawn], targets[drawn]
        batches = draw_batches(
            len(self.train), self.batch_size, self.inner_steps, seed=mix(self.seed, 3, member, self.step)
        )
        return Training(
            student=module,
            commentaries=self.commentaries,
            inputs=self.train.inputs,
            targets=self.train.targets,
            batches=batches.to(self.device),
            validation_inputs=inputs,
            validation_targets=targets,
            inner=self.inner,
            reduction=self.reduction,
            criterion=self.criterion,
            domain=self.domain,
            first_step=(self.population.warm_up + age * self.inner_steps),
            seed=mix(self.seed, 4, member, generation) % 2**31,
            augmentation=self.augmentation,
        )

    def _begin(self, problem: Training) -> State:
        """A new student, trained through its warm-up."""
        state = problem.start()
        if self.population.warm_up:
            batches = draw_batches(len(self.train), self.batch_size, self.population.warm_up, seed=problem.seed)
            warming = replace(problem, batches=batches.to(self.device), first_step=0)
            with own_generators(self.device):
                for step in range(self.population.warm_up):
                    state = advance(warming, state, step)
        return state

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed, as JSON values; first looked at before the first step."""
        facts = {
            "seed": self.seed,
            "inner_steps": self.inner_steps,
            "batch_size": self.batch_size,
            "outer_steps": self.outer_steps,
            "population": [self.population.size, self.population.fresh_every, self.population.warm_up],
            "method": self.method.name,
            "inner": self.inner.name,
            "outer": describe_optimiser(self.optimiser),
            "outer_batch_size": self.outer_batch_size,
            "reduction": self.reduction,
            "clip_norm": self.clip_norm,
            "averages_from": self.averages.first,
            "inner_schedule": describe_function(getattr(self.inner, "schedule", None)),
            "outer_schedule": _describe_schedule(self.scheduler),
            "early_stop": self.early_stop,
            "criterion": describe_function(self.criterion),
            "augmentation": describe_function(self.augmentation),
            "commentaries": [describe_commentary(one) for one in self.commentaries],
            "students": [one.name for one in self.students],
            "student_parameters": [self.parameters[index] for index in sorted(self.parameters)],
            "train": describe_examples(self.train),
            "validation": describe_examples(self.validation),
        }
        return as_json(facts)

    @cached_property
    def initial(self) -> list[str]:
        """Digests of the commentaries' first values; first looked at before the first step."""
        return describe_values(self.commentaries)

    def checkpoint(self) -> Checkpoint:
        """What it takes to go on from here."""
        tensors, facts = pack_optimiser(self.optimiser)
        for at, one in enumerate(self.commentaries):
            tensors |= pack_module(f"commentary{at}", one)
        if self.population.fresh_every > 1:  # otherwise no student outlives its outer step
            for member, state in self.states.items():
                tensors |= pack_student(f"student{member}", state)
            for member, solution in self.warm.items():
                tensors |= {f"warm{member}.{at}": t.detach().cpu().clone() for at, t in enumerate(solution)}
        tensors |= self.averages.tensors()
        return Checkpoint(
            step=self.step,
            tensors=tensors,
            facts={
                "run": self.identity,
                "initial": self.initial,
                "optimiser": facts,
                "history": [dict(line) for line in self.history],
                "seconds": self.seconds,
                "averages": self.averages.facts(),
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take the place of the run that wrote the checkpoint; raises `InputError` where it was another run."""
        check_same_run(checkpoint, self.identity)
        self.initial = check_same_start(checkpoint, self.commentaries)
        for at, one in enumerate(self.commentaries):
            unpack_module(f"commentary{at}", one, checkpoint.tensors)
        self.history = [dict(line) for line in checkpoint.facts["history"]]
        self._replay_schedule()
        unpack_optimiser(self.optimiser, checkpoint.tensors, checkpoint.facts["optimiser"])
        self.step = checkpoint.step
        for member in range(self.population.size):
            state = unpack_student(f"student{member}", checkpoint.tensors, self.device)
            if state is not None:
                self.states[member] = state
                self._module(member, self._age(member)[0])
            warm = {k: t for k, t in checkpoint.tensors.items() if k.startswith(f"warm{member}.")}
            if warm:
                self.warm[member] = tuple(warm[f"warm{member}.{at}"].to(self.device) for at in range(len(warm)))
        self.averages.restore(checkpoint.tensors, checkpoint.facts["averages"], self.device)
        self.seconds = float(checkpoint.facts["seconds"])

    def _replay_schedule(self) -> None:
        """A schedule is a function of steps and losses: taking them again restores it, whatever it keeps inside."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            for line in self.history:
                advance_scheduler(self.scheduler, line["outer_loss"])


def _describe_schedule(scheduler: torch.optim.lr_scheduler.LRScheduler | None) -> dict[str, Any] | None:
    """What kind of schedule it is, with the numbers that it begins with."""
    return None if scheduler is None else {"kind": type(scheduler).__name__, **scheduler.state_dict()}


def mix(*numbers: int) -> int:
    """One seed from several numbers, well mixed (SplitMix64 over them)."""
    mixed = 0
    for number in numbers:
        mixed = (mixed ^ (number & 0xFFFFFFFFFFFFFFFF)) + 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return mixed >> 2
