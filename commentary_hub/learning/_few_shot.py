"""Meta-learning over episodes: an initialisation, commentaries, or both, by any method."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from commentary_hub.commentaries import Commentary, ExampleWeights, compose
from commentary_hub.errors import Diverged, InputError
from commentary_hub.learning._adaptation import Adaptation, EpisodeTraining, check_adaptation, initialisation_of
from commentary_hub.learning._checkpoint import (
    Checkpoint,
    Sink,
    check_same_run,
    check_same_start,
    describe_values,
    pack_module,
    pack_optimiser,
    unpack_module,
    unpack_optimiser,
)
from commentary_hub.learning._device import find_device
from commentary_hub.learning._episodes import Episodes, check_new_classes
from commentary_hub.learning._hypergradient import Method
from commentary_hub.learning._implicit import Implicit
from commentary_hub.learning._outer import OuterOptimiser, run_loop
from commentary_hub.learning._problem import Training, own_generators
from commentary_hub.learning._progress import Progress, Report, showing
from commentary_hub.learning._result import (
    Learned,
    Student,
    as_json,
    describe_commentary,
    describe_examples,
    describe_function,
    describe_optimiser,
    describe_parameters,
    describe_run,
)
from commentary_hub.learning._run import mix
from commentary_hub.learning._schedules import check_inner_schedule
from commentary_hub.learning._unrolled import Unrolled
from commentary_hub.learning._validation import check_clip_norm, try_student


@dataclass(frozen=True, slots=True)
class FewShotLearned:
    """What `learn_episodes` returns: the record for an artefact, and a student that starts where it was taught to.

    ``learned.commentaries`` is empty where an initialisation was learned alone (plain MAML). ``student`` holds θ₀.
    """

    learned: Learned
    student: nn.Module
    adaptation: Adaptation

    def accuracies(
        self, episodes: Episodes, seeds: Iterable[int], *, commentary: Commentary | Sequence[Commentary] | None = None
    ) -> Tensor:
        """The query accuracy [E] after adapting to the episode of each seed.

        ``commentary`` replaces what was learned (a control); an empty sequence adapts without any.
        """
        chosen = self.learned.commentaries if commentary is None else _composed(commentary)
        first = initialisation_of(self.student, learned=False)
        found = []
        for seed in seeds:
            problem = EpisodeTraining(self.student, first, chosen, episodes.draw(seed), self.adaptation)
            found.append(problem.accuracy(problem.adapted()))
        return torch.tensor(found, dtype=torch.float64)


def learn_episodes(
    student: Student,
    *,
    train: Episodes | Sequence[Episodes],
    validation: Episodes,
    adaptation: Adaptation,
    outer_steps: int,
    commentary: Commentary | Sequence[Commentary] = (),
    method: Method | None = None,
    tasks: int = 4,
    outer: OuterOptimiser | None = None,
    learn_initialisation: bool = True,
    clip_norm: float | None = None,
    validate_every: int = 50,
    validation_tasks: int = 40,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool | Progress = False,
    sink: Sink | None = None,
    sink_every: int = 50,
    resume: Checkpoint | None = None,
) -> FewShotLearned:
    """Learn the student's initialisation and commentaries together: minimise the mean query loss after adaptation.

    Each outer step draws ``tasks`` episodes of ``train`` (of several samplers in turn), takes the hypergradient of each
    by ``method`` (default `Unrolled` with the whole graph: second-order MAML) and lets ``outer`` (default Adam with
    lr 1e-3) update φ. A commentary whose parameters ask for no gradient (``requires_grad_(False)``) acts as it is: so a
    stored one is reused; likewise what a student froze is neither adapted nor learned. Without ``learn_initialisation``
    each student starts at random, commentaries alone are learned. Every ``validate_every`` outer steps the mean query
    loss over the same ``validation_tasks`` episodes of ``validation`` is measured; the best φ by it is what is
    returned. Training and validation share no class.

    ``progress``, ``sink`` and ``resume`` are as in `learn`. Raises `SplitError`, `InputError` before anything runs, and
    what `learn` raises; `Diverged` also where no validation loss was finite. Cost: an outer step is ``tasks``
    hypergradients of ``adaptation.steps`` inner steps.
    """
    samplers = (train,) if isinstance(train, Episodes) else tuple(train)
    commentaries = _composed(commentary)
    where = find_device(device)
    check_clip_norm(clip_norm)
    _check(samplers, validation, outer_steps, tasks, validate_every, validation_tasks)
    learns = any(p.requires_grad for one in commentaries for p in one.parameters())
    if not learns and not learn_initialisation:
        raise InputError(
            "there is nothing to learn: give a commentary that asks for gradients, or let the initialisation be learned"
        )
    with own_generators(where, mix(seed, 1)):
        module = student.build().to(where)
    check_adaptation(adaptation, module, commentaries)
    check_inner_schedule(adaptation.inner, adaptation.steps)
    if learn_initialisation:
        _check_reaches_first(method, adaptation)
    for one in commentaries:
        one.to(where).train()
    run = _FewShotRun(
        module=module, initialisation=initialisation_of(module, learned=learn_initialisation),
        commentaries=commentaries, build=student.build, train=samplers, validation=validation, adaptation=adaptation,
        method=method or Unrolled(memory="full"), outer_steps=outer_steps, tasks=tasks, clip_norm=clip_norm,
        validate_every=validate_every, validation_tasks=validation_tasks, seed=seed, device=where,
        outer=outer or partial(torch.optim.Adam, lr=1e-3),
    )  # fmt: skip
    _try_student(run, student.name)
    if resume is not None:
        run.restore(resume)
    with showing(progress, outer_steps) as show:
        run_loop(run, show, sink, sink_every)
    run.take_best()
    return _described(run, student)


@dataclass
class _FewShotRun:
    """A run between its outer steps."""

    module: nn.Module
    initialisation: dict[str, Tensor]
    commentaries: tuple[Commentary, ...]
    build: Callable[[], nn.Module]
    train: tuple[Episodes, ...]
    validation: Episodes
    adaptation: Adaptation
    method: Method
    outer_steps: int
    tasks: int
    clip_norm: float | None
    validate_every: int
    validation_tasks: int
    seed: int
    device: torch.device
    outer: OuterOptimiser
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best_loss: float = float("inf")
    best: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        learned = {name: nn.Parameter(p) for name, p in self.initialisation.items() if p.requires_grad}
        self.initialisation |= learned  # the optimiser's own leaves: the problem's φ are these very tensors
        own = [p for one in self.commentaries for p in one.parameters() if p.requires_grad]
        self.phi: tuple[nn.Parameter, ...] = (*own, *learned.values())
        self.optimiser = self.outer(self.phi)

    def advance(self) -> Report:
        """One outer step, and a validation where it is time."""
        found = []
        for task in range(self.tasks):
            number = self.step * self.tasks + task
            problem = self._problem(self.train[number % len(self.train)], mix(self.seed, 2, number))
            found.append(self.method.hypergradient(problem, problem.start()))
        for index, parameter in enumerate(self.phi):
            parameter.grad = torch.stack([one.value[index] for one in found]).mean(0)
        norm = torch.nn.utils.clip_grad_norm_(self.phi, self.clip_norm or float("inf"))
        self.optimiser.step()
        self.step += 1
        loss = sum(one.outer_loss for one in found) / len(found)
        line = {"outer_loss": loss, "hypergradient_norm": float(norm)}
        if self.step % self.validate_every == 0 or self.step == self.outer_steps:
            line["validation_loss"] = self.validate()
        self.history.append(line)
        return Report(step=self.step, steps=self.outer_steps, outer_loss=loss, hypergradient_norm=float(norm))

    def validate(self) -> float:
        """The mean query loss on the validation episodes, the same every time; the best φ so far is kept."""
        losses = []
        for number in range(self.validation_tasks):
            problem = self._problem(self.validation, mix(self.seed, 3, number))
            with torch.no_grad():
                losses.append(float(problem.outer_loss(problem.adapted())))
        loss = sum(losses) / len(losses)
        if loss < self.best_loss:
            self.best_loss, self.best = loss, tuple(p.detach().clone() for p in self.phi)
        return loss

    @torch.no_grad()
    def take_best(self) -> None:
        """Put the best φ into the commentaries and the student; `Diverged` where no validation loss was finite."""
        if not self.best:
            raise Diverged(
                f"in {self.step} outer steps the validation loss was never finite: lower the inner learning rate, or "
                "clip its gradients (clip_norm=)",
                step=self.step,
            )
        for parameter, value in zip(self.phi, self.best, strict=True):
            parameter.copy_(value)
        for name, parameter in self.module.named_parameters():
            parameter.copy_(self.initialisation[name])

    def _problem(self, episodes: Episodes, seed: int) -> EpisodeTraining:
        episode = episodes.draw(seed).to(self.device)
        first = self.initialisation
        if not any(p.requires_grad for p in first.values()):  # every student is a new one
            with own_generators(self.device, mix(seed, 1)):
                first = initialisation_of(self.build().to(self.device), learned=False)
        return EpisodeTraining(self.module, first, self.commentaries, episode, self.adaptation)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed, as JSON values."""
        how = self.adaptation
        facts = {
            "seed": self.seed,
            "outer_steps": self.outer_steps,
            "tasks": self.tasks,
            "method": self.method.name,
            "adaptation": how.name,
            "inner_steps": how.steps,
            "inner_schedule": describe_function(getattr(how.inner, "schedule", None)),
            "reduction": how.reduction,
            "criterion": describe_function(how.criterion),
            "outer": describe_optimiser(self.optimiser),
            "clip_norm": self.clip_norm,
            "validations": [self.validate_every, self.validation_tasks],
            "commentaries": [describe_commentary(one) for one in self.commentaries],
            "student_parameters": describe_parameters(self.module),
            "learn_initialisation": any(p.requires_grad for p in self.initialisation.values()),
            "episodes": [[one.ways, one.shots, one.queries, one.wrong] for one in (*self.train, self.validation)],
            "train": [describe_examples(one.examples) for one in self.train],
            "validation": describe_examples(self.validation.examples),
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
        named = {f"initialisation.{name}": p for name, p in self.initialisation.items()}
        named |= {f"best.{at}": value for at, value in enumerate(self.best)}
        tensors |= {name: value.detach().cpu().clone() for name, value in named.items()}
        return Checkpoint(
            step=self.step,
            tensors=tensors,
            facts={
                "run": self.identity,
                "initial": self.initial,
                "optimiser": facts,
                "history": [dict(line) for line in self.history],
                "seconds": self.seconds,
                "best_loss": self.best_loss if self.best else None,
            },
        )

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> None:
        """Take the place of the run that wrote the checkpoint; raises `InputError` where it was another run."""
        check_same_run(checkpoint, self.identity)
        self.initial = check_same_start(checkpoint, self.commentaries)
        for at, one in enumerate(self.commentaries):
            unpack_module(f"commentary{at}", one, checkpoint.tensors)
        for name, parameter in self.initialisation.items():
            parameter.copy_(checkpoint.tensors[f"initialisation.{name}"])
        unpack_optimiser(self.optimiser, checkpoint.tensors, checkpoint.facts["optimiser"])
        count = sum(name.startswith("best.") for name in checkpoint.tensors)
        self.best = tuple(checkpoint.tensors[f"best.{at}"].to(self.device) for at in range(count))
        self.best_loss = float("inf") if checkpoint.facts["best_loss"] is None else checkpoint.facts["best_loss"]
        self.step = checkpoint.step
        self.history = [dict(line) for line in checkpoint.facts["history"]]
        self.seconds = float(checkpoint.facts["seconds"])


def _composed(commentary: Commentary | Sequence[Commentary]) -> tuple[Commentary, ...]:
    return compose([commentary] if isinstance(commentary, Commentary) else commentary)


def _check(
    train: tuple[Episodes, ...],
    validation: Episodes,
    outer_steps: int,
    tasks: int,
    validate_every: int,
    validation_tasks: int,
) -> None:
    counts = {"outer_steps": outer_steps, "tasks": tasks, "validate_every": validate_every}
    for name, value in (counts | {"validation_tasks": validation_tasks}).items():
        if value < 1:
            raise InputError(f"{name} is {value}: it must be at least 1")
    if not train:
        raise InputError("there are no training episodes: give at least one sampler")
    for one in train:
        check_new_classes(train=one, validation=validation)
        if one.ways != validation.ways:
            raise InputError(
                f"training episodes have {one.ways} ways, validation episodes {validation.ways}: a student has one "
                "number of outputs"
            )


def _try_student(run: _FewShotRun, name: str) -> None:
    """Raise what `try_student` raises: an episode's support is a small training set, judged on validation's queries."""
    judged, how = run.validation.draw(mix(run.seed, 3, 0)).to(run.device), run.adaptation
    for number, sampler in enumerate(run.train):
        episode = sampler.draw(mix(run.seed, 2, number)).to(run.device)
        size = len(episode.targets)
        commentaries = run.commentaries
        if not any(p.requires_grad for one in commentaries for p in one.parameters()):
            commentaries = compose([*commentaries, ExampleWeights(rows=size).to(run.device)])  # there is one to teach
        problem = Training(
            student=run.module, commentaries=commentaries, inputs=episode.inputs, targets=episode.targets,
            batches=torch.arange(size, device=run.device)[None], validation_inputs=judged.query_inputs,
            validation_targets=judged.query_targets, inner=how.inner, reduction=how.reduction, criterion=how.criterion,
            domain=how.steps, seed=episode.seed % 2**31,
        )  # fmt: skip
        try_student(problem, name)


def _check_reaches_first(method: Method | None, adaptation: Adaptation) -> None:
    """Raise `InputError` where no derivative, or a wrong one, would reach the initialisation, where step 0 starts."""
    steps = adaptation.steps
    if isinstance(method, Unrolled) and method.truncate is not None and method.truncate < steps:
        raise InputError(
            f"truncate is {method.truncate} of {steps} steps: the initialisation acts in the first one, so that no "
            "gradient would reach it; leave truncate out, or learn_initialisation=False"
        )
    if not isinstance(method, Implicit):
        return
    if not adaptation.proximity:
        raise InputError(
            "the implicit method knows nothing of an initialisation unless the adaptation stays near it: "
            "give Adaptation(proximity=) above 0 (iMAML), or use Unrolled"
        )
    if method.batches >= steps:
        raise InputError(
            f"the implicit method looks at the last {method.batches} of {steps} steps: the first one starts from the "
            "initialisation itself and must not be among them; adapt for more steps"
        )


def _described(run: _FewShotRun, student: Student) -> FewShotLearned:
    first = run.train[0]
    learned = describe_run(
        run.commentaries, (student,), first.examples, run.validation.examples, {}, run.history,
        method=run.method, inner=run.adaptation.inner, optimiser=run.optimiser, reduction=run.adaptation.reduction,
        domain=run.adaptation.steps, inner_steps=run.adaptation.steps, batch_size=first.ways * first.shots,
        population=run.tasks, warm_up=0, fresh_every=1, seed=run.seed, seconds=run.seconds, device=run.device,
    )  # fmt: skip
    module = copy.deepcopy(run.module).cpu()
    return FewShotLearned(learned, module, run.adaptation)
