"""The outer loop: students come and go, the commentary stays and learns from each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from commentary_hub.commentaries import Commentary, Criterion, Reduction, compose, cross_entropy
from commentary_hub.data import Examples
from commentary_hub.errors import Diverged, InputError, Interrupted, LearningError, OutOfMemory
from commentary_hub.learning._averages import Averages
from commentary_hub.learning._checkpoint import (
    Checkpoint,
    Sink,
    pack_module,
    pack_optimiser,
    pack_student,
    unpack_module,
    unpack_optimiser,
    unpack_student,
)
from commentary_hub.learning._hypergradient import Hypergradient, Method
from commentary_hub.learning._optimisers import InnerOptimiser, Tensors
from commentary_hub.learning._problem import Augmentation, State, Training, check_student, draw_batches
from commentary_hub.learning._progress import Progress, Report, progress_bar
from commentary_hub.learning._result import Learned, Student, describe_run
from commentary_hub.learning._validation import check_run

OuterOptimiser = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
OuterSchedule = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


@dataclass(frozen=True)
class Population:
    """Which students teach the commentary: what makes it transfer.

    Every outer step takes the mean hypergradient of ``size`` students (architectures in turn, each with its own
    initialisation and batches). After ``fresh_every`` outer steps a student is replaced by a new one; until then it goes
    on training. With more than one student their ages are staggered. ``warm_up`` inner steps, under the commentary as
    it is, precede a new student's first hypergradient.
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


@dataclass(frozen=True)
class EarlyStop:
    """Stop when the smoothed outer loss has not improved by ``least`` for ``patience`` outer steps."""

    patience: int
    least: float = 1e-4


@dataclass
class _Run:
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
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    states: dict[int, State] = field(default_factory=dict)
    warm: dict[int, Tensors] = field(default_factory=dict)
    modules: dict[int, nn.Module] = field(default_factory=dict)

    @property
    def domain(self) -> int:
        """T of progress i/T: the age a student reaches."""
        return self.population.warm_up + self.inner_steps * self.population.fresh_every

    def advance(self) -> Report:
        """One outer step."""
        gradients: list[Hypergradient] = []
        for member in range(self.population.size):
            gradients.append(self._teach(member))
        parameters = [p for one in self.commentaries for p in one.parameters() if p.requires_grad]
        for index, parameter in enumerate(parameters):
            parameter.grad = torch.stack([one.value[index] for one in gradients]).mean(0)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm or float("inf"))
        self.optimiser.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.step += 1
        self.averages.add(self.commentaries, self.step)
        residuals = [one.residual for one in gradients if one.residual is not None]
        loss = sum(one.outer_loss for one in gradients) / len(gradients)
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
        """(generation, outer steps lived) of a member; ages are staggered over the population."""
        every = self.population.fresh_every
        offset = member * every // self.population.size
        lived = self.step + offset
        generation, age = divmod(lived, every)
        return generation, age if self.step or not offset else 0

    def _module(self, member: int, generation: int) -> nn.Module:
        """The member's architecture with the initialisation of its generation."""
        if self._age(member)[1] == 0 or member not in self.modules:
            kind = self.students[(member + generation * self.population.size) % len(self.students)]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(_mix(self.seed, 1, member, generation))
                self.modules[member] = kind.build().to(self.device)
        return self.modules[member]

    def _problem(self, member: int, generation: int, age: int, module: nn.Module) -> Training:
        inputs, targets = self.validation.inputs, self.validation.targets
        if self.outer_batch_size is not None:
            drawn = draw_batches(len(targets), self.outer_batch_size, 1, seed=_mix(self.seed, 2, member, self.step))[0]
            inputs, targets = inputs[drawn], targets[drawn]
        batches = draw_batches(
            len(self.train), self.batch_size, self.inner_steps, seed=_mix(self.seed, 3, member, self.step)
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
            seed=_mix(self.seed, 4, member, generation) % 2**31,
            augmentation=self.augmentation,
        )

    def _begin(self, problem: Training) -> State:
        """A new student, trained through its warm-up."""
        state = problem.start()
        if self.population.warm_up:
            batches = draw_batches(len(self.train), self.batch_size, self.population.warm_up, seed=problem.seed)
            warming = replace(problem, batches=batches.to(self.device), first_step=0)
            with torch.random.fork_rng(devices=[]):
                for step in range(self.population.warm_up):
                    state = warming.step(state, step, create_graph=False)
        return state

    def checkpoint(self) -> Checkpoint:
        """What it takes to go on from here."""
        tensors, facts = pack_optimiser(self.optimiser)
        for at, one in enumerate(self.commentaries):
            tensors |= pack_module(f"commentary{at}", one)
        if self.population.fresh_every > 1:
            for member, state in self.states.items():
                tensors |= pack_student(f"student{member}", state)
            for member, solution in self.warm.items():
                tensors |= {f"warm{member}.{at}": t.detach().cpu().clone() for at, t in enumerate(solution)}
        tensors |= self.averages.tensors()
        return Checkpoint(
            step=self.step,
            tensors=tensors,
            facts={
                "optimiser": facts,
                "scheduler": None if self.scheduler is None else _plain(self.scheduler.state_dict()),
                "history": self.history,
                "seconds": self.seconds,
                "averages": self.averages.facts(),
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take the place of the run that wrote the checkpoint."""
        for at, one in enumerate(self.commentaries):
            unpack_module(f"commentary{at}", one, checkpoint.tensors)
        unpack_optimiser(self.optimiser, checkpoint.tensors, checkpoint.facts["optimiser"])
        if self.scheduler is not None and checkpoint.facts["scheduler"] is not None:
            self.scheduler.load_state_dict(checkpoint.facts["scheduler"])
        self.step = checkpoint.step
        for member in range(self.population.size):
            state = unpack_student(f"student{member}", checkpoint.tensors, self.device)
            if state is not None:
                self.states[member] = state
                self._module(member, self._age(member)[0])
            warm = {k: t for k, t in checkpoint.tensors.items() if k.startswith(f"warm{member}.")}
            if warm:
                self.warm[member] = tuple(warm[f"warm{member}.{at}"].to(self.device) for at in range(len(warm)))
        self.averages.restore(checkpoint.tensors, checkpoint.facts["averages"])
        self.history = list(checkpoint.facts["history"])
        self.seconds = float(checkpoint.facts["seconds"])


def learn(
    commentary: Commentary | Sequence[Commentary],
    students: Student | Sequence[Student],
    *,
    train: Examples,
    validation: Examples,
    method: Method,
    inner: InnerOptimiser,
    inner_steps: int,
    batch_size: int,
    outer_steps: int,
    outer: OuterOptimiser | None = None,
    outer_schedule: OuterSchedule | None = None,
    reduction: Reduction = "weight_mean",
    criterion: Criterion = cross_entropy,
    outer_batch_size: int | None = None,
    population: Population | None = None,
    average_last: float = 0.25,
    clip_norm: float | None = None,
    early_stop: EarlyStop | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool | Progress = False,
    sink: Sink | None = None,
    sink_every: int = 10,
    resume: Checkpoint | None = None,
) -> Learned:
    """Learn one or more commentaries together: minimise L_V(θ_T(φ)) over φ.

    Each outer step trains the population's students for ``inner_steps`` steps of ``batch_size`` examples of ``train``
    under the commentaries, takes the hypergradient of the mean ``criterion`` on ``validation`` (all of it, or
    ``outer_batch_size`` drawn examples) by ``method``, and lets ``outer`` (default Adam with lr 0.3, which suits tables
    of logits) update φ. The result is the mean of φ over the last ``average_last`` share of outer steps.

    ``commentary`` is changed in place and is also ``Learned.commentary``. ``progress`` shows a bar or is called with a
    `Report` after every outer step (``tensorboard(writer)`` makes one). ``sink`` is given a `Checkpoint` every
    ``sink_every`` outer steps and when the run is interrupted; ``resume`` continues from one, bit-identically on the
    CPU at the same number of threads and with the same arguments.

    Raises `SplitError`, `LabelError`, `ShapeError`, `InputError` before anything runs; `Diverged`, `OutOfMemory`,
    `Interrupted`, `NotDifferentiable`, `StatefulModule` with the last good state given to the sink.
    """
    commentaries = compose([commentary] if isinstance(commentary, Commentary) else commentary)
    kinds = (students,) if isinstance(students, Student) else tuple(students)
    where = torch.device(device)
    check_run(
        commentaries, kinds, train, validation,
        inner_steps=inner_steps, batch_size=batch_size, outer_steps=outer_steps, average_last=average_last,
    )  # fmt: skip
    for one in commentaries:
        one.to(where).train()
    parameters = [p for one in commentaries for p in one.parameters() if p.requires_grad]
    optimiser = (outer or partial(torch.optim.Adam, lr=0.3))(parameters)
    run = _Run(
        commentaries=commentaries, students=kinds, train=_moved(train, where), validation=_moved(validation, where),
        method=method, inner=inner, inner_steps=inner_steps, batch_size=min(batch_size, len(train)),
        outer_steps=outer_steps, reduction=reduction, criterion=criterion, outer_batch_size=outer_batch_size,
        population=population or Population(), clip_norm=clip_norm, seed=seed, device=where, augmentation=augmentation,
        optimiser=optimiser, scheduler=None if outer_schedule is None else outer_schedule(optimiser),
        averages=Averages(first=outer_steps - max(1, round(average_last * outer_steps)) + 1),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        for index in range(len(kinds)):
            _try_student(run, index)
    if resume is not None:
        run.restore(resume)
    with progress_bar(progress, outer_steps) as show:
        _loop(run, show, sink, sink_every, early_stop)
    run.averages.apply(commentaries)
    return describe_run(
        commentaries, kinds, train, validation, run.averages.statistics(commentaries), run.history,
        method=method, inner=inner, optimiser=optimiser, reduction=reduction, domain=run.domain,
        inner_steps=inner_steps, batch_size=run.batch_size, population=run.population.size,
        warm_up=run.population.warm_up, fresh_every=run.population.fresh_every, seed=seed,
        seconds=run.seconds, device=where,
    )  # fmt: skip


def _loop(run: _Run, show: Progress, sink: Sink | None, sink_every: int, early_stop: EarlyStop | None) -> None:
    """All outer steps; whatever ends them early, the last good state goes to the sink first."""
    good = run.checkpoint() if sink is not None else None
    try:
        while run.step < run.outer_steps:
            began = time.monotonic()
            report = run.advance()
            run.seconds += time.monotonic() - began
            if sink is not None:
                good = run.checkpoint()
                if run.step % sink_every == 0 or run.step == run.outer_steps:
                    sink(good)
            show(report)
            if early_stop is not None and _stalled(run.history, early_stop):
                break
    except KeyboardInterrupt as error:
        raise Interrupted(_ended(run, "interrupted", sink, good), step=run.step) from error
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemory(_ended(run, "out of memory", sink, good), step=run.step) from error
    except MemoryError as error:
        raise OutOfMemory(_ended(run, "out of memory", sink, good), step=run.step) from error
    except Diverged as error:
        raise Diverged(f"{error.message}; {_ended(run, 'stopped', sink, good)}", step=run.step) from error


def _ended(run: _Run, why: str, sink: Sink | None, good: Checkpoint | None) -> str:
    if sink is None or good is None:
        return f"{why} after outer step {run.step} of {run.outer_steps}; without a sink nothing was kept"
    sink(good)
    return (
        f"{why} after outer step {run.step} of {run.outer_steps}; step {good.step} is kept: run the same again with it "
        "(resume=, or the same command) to go on"
    )


def _stalled(history: list[dict[str, float]], rule: EarlyStop) -> bool:
    if len(history) <= 2 * rule.patience:
        return False
    losses = [line["outer_loss"] for line in history]
    recent, before = losses[-rule.patience :], losses[-2 * rule.patience : -rule.patience]
    return sum(recent) / rule.patience > sum(before) / rule.patience - rule.least


def _try_student(run: _Run, index: int) -> None:
    """One student of each architecture takes a step before the long run, so that mistakes show at once."""
    torch.manual_seed(_mix(run.seed, 1, index, 0))
    module = run.students[index].build().to(run.device)
    problem = run._problem(0, 0, 0, module)
    try:
        check_student(problem)
    except LearningError:
        raise
    except RuntimeError as error:
        raise InputError(
            f"student {run.students[index].name!r} cannot be trained on inputs {list(run.train.inputs.shape)[1:]} with "
            f"{run.train.class_count} classes: {error}"
        ) from error


def _moved(examples: Examples, device: torch.device) -> Examples:
    return replace(examples, inputs=examples.inputs.to(device), targets=examples.targets.to(device))


def _mix(*numbers: int) -> int:
    """One seed from several numbers, well mixed (SplitMix64 over them)."""
    mixed = 0
    for number in numbers:
        mixed = (mixed ^ (number & 0xFFFFFFFFFFFFFFFF)) + 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return mixed >> 2


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """The JSON values of a scheduler's state."""
    return {key: value for key, value in state.items() if isinstance(value, int | float | str | bool | list | None)}
