"""The outer loop: one outer step after another, and an orderly end whatever happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import nn

from commentary_hub.commentaries import Commentary, Criterion, Reduction, compose, cross_entropy
from commentary_hub.data import Examples
from commentary_hub.errors import Diverged, InputError, Interrupted, OutOfMemory
from commentary_hub.learning._averages import Averages
from commentary_hub.learning._checkpoint import Checkpoint, Sink
from commentary_hub.learning._device import find_device
from commentary_hub.learning._hypergradient import Method
from commentary_hub.learning._optimisers import InnerOptimiser
from commentary_hub.learning._problem import Augmentation
from commentary_hub.learning._progress import Progress, Report, showing
from commentary_hub.learning._result import Learned, Student, describe_run
from commentary_hub.learning._run import Population, Run
from commentary_hub.learning._schedules import OuterSchedule, check_inner_schedule, outer_scheduler
from commentary_hub.learning._validation import check_optimiser, check_run, try_student

OuterOptimiser = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class EarlyStop:
    """Stop when the mean outer loss of the last ``patience`` steps is not ``least`` below that of those before."""

    patience: int
    least: float = 1e-4

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise InputError(f"patience is {self.patience}: give the number of outer steps to compare, at least 1")


@torch.enable_grad()
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
    progress: bool | Progress | Sequence[bool | Progress] = False,
    sink: Sink | None = None,
    sink_every: int = 10,
    resume: Checkpoint | None = None,
) -> Learned:
    """Learn one or more commentaries together: minimise L_V(θ_T(φ)) over φ.

    Each outer step trains the population's students for ``inner_steps`` steps of ``batch_size`` examples of ``train``
    under the commentaries, takes the hypergradient of the mean ``criterion`` on ``validation`` (all of it, or
    ``outer_batch_size`` drawn examples) by ``method``, and lets ``outer`` (default Adam with lr 0.3, which suits tables
    of logits) update φ. The result is the mean of φ over the last ``average_last`` share of outer steps.

    ``commentary`` is changed in place and is also ``Learned.commentary``. ``outer`` and ``outer_schedule`` make any
    optimiser and schedule of torch.optim (`ReduceLROnPlateau` sees the outer loss). ``progress`` shows a bar or is
    called with a `Report` after every outer step (``tensorboard(writer)`` makes one), or is several of these. ``sink``
    is given a `Checkpoint` every ``sink_every`` outer steps and when the run ends, however it ends; ``resume`` goes on
    from one, bit-identically on the CPU at the same number of threads and with the same arguments.

    Raises `SplitError`, `LabelError`, `ShapeError`, `InputError` before anything runs; `Diverged`, `OutOfMemory`,
    `Interrupted`, `NotDifferentiable`, `StatefulModule` with the last good state given to the sink.
    """
    commentaries = compose([commentary] if isinstance(commentary, Commentary) else commentary)
    kinds = tuple(students) if isinstance(students, Sequence) else (students,)
    where = find_device(device)
    check_run(
        commentaries, kinds, train, validation, method=method, inner=inner, clip_norm=clip_norm,
        counts={
            "inner_steps": inner_steps, "batch_size": batch_size, "outer_steps": outer_steps,
            "outer_batch_size": outer_batch_size, "sink_every": sink_every,
        },
        average_last=average_last,
    )  # fmt: skip
    for one in commentaries:
        one.to(where).train()
    parameters = [p for one in commentaries for p in one.parameters() if p.requires_grad]
    optimiser = (outer or partial(torch.optim.Adam, lr=0.3))(parameters)
    check_optimiser(optimiser)
    run = Run(
        commentaries=commentaries, students=kinds, train=_moved(train, where), validation=_moved(validation, where),
        method=method, inner=inner, inner_steps=inner_steps, batch_size=min(batch_size, len(train)),
        outer_steps=outer_steps, reduction=reduction, criterion=criterion, outer_batch_size=outer_batch_size,
        population=population or Population(), clip_norm=clip_norm, seed=seed, device=where, augmentation=augmentation,
        optimiser=optimiser, scheduler=outer_scheduler(outer_schedule, optimiser, outer_steps),
        averages=Averages(first=outer_steps - max(1, round(average_last * outer_steps)) + 1),
        early_stop=None if early_stop is None else (early_stop.patience, early_stop.least),
    )  # fmt: skip
    check_inner_schedule(inner, run.domain)
    for index in range(len(kinds)):
        try_student(run.trial(index), kinds[index].name)
    if resume is not None:
        run.restore(resume)
    with showing(progress, outer_steps) as show:
        run_loop(run, show, sink, sink_every, early_stop)
    run.averages.apply(commentaries)
    return describe_run(
        commentaries, kinds, train, validation, run.averages.statistics(commentaries), run.history,
        method=method, inner=inner, optimiser=optimiser, reduction=reduction, domain=run.domain,
        inner_steps=inner_steps, batch_size=run.batch_size, population=run.population.size,
        warm_up=run.population.warm_up, fresh_every=run.population.fresh_every, seed=seed,
        seconds=run.seconds, device=where,
    )  # fmt: skip


class Advancing(Protocol):
    """A run as its loop sees it: what happens in an outer step is its own affair."""

    step: int
    outer_steps: int
    seconds: float
    history: list[dict[str, float]]

    def advance(self) -> Report:
        """One outer step."""

    def checkpoint(self) -> Checkpoint:
        """What it takes to go on from here."""


def run_loop(
    run: Advancing, show: Progress, sink: Sink | None, sink_every: int, early_stop: EarlyStop | None = None
) -> None:
    """All outer steps; whatever ends them early, the last good state goes to the sink first."""
    good = run.checkpoint() if sink is not None else None
    try:
        while run.step < run.outer_steps and not _stalled(run.history, early_stop):
            began = time.monotonic()
            report = run.advance()
            run.seconds += time.monotonic() - began
            if sink is not None:
                good = run.checkpoint()
                ends = run.step == run.outer_steps or _stalled(run.history, early_stop)
                if ends or run.step % sink_every == 0:
                    sink(good)
            show(report)
    except KeyboardInterrupt as error:
        raise Interrupted(_ended(run, "interrupted", sink, good), step=run.step) from error
    except Diverged as error:
        raise Diverged(f"{error.message}; {_ended(run, 'stopped', sink, good)}", step=run.step) from error
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        message = f"{_ended(run, 'out of memory', sink, good)}; a smaller batch_size or memory='checkpoints' takes less"
        raise OutOfMemory(message, step=run.step) from error


def _is_out_of_memory(error: BaseException) -> bool:
    """Torch tells of the CPU's memory only in the words of a RuntimeError."""
    words = ("can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)


def _ended(run: Advancing, why: str, sink: Sink | None, good: Checkpoint | None) -> str:
    if sink is None or good is None:
        return f"{why} after outer step {run.step} of {run.outer_steps}; without a sink nothing was kept"
    sink(good)
    return (
        f"{why} after outer step {run.step} of {run.outer_steps}; step {good.step} is kept: run the same again with it "
        "(resume=, or the same command) to go on"
    )


def _stalled(history: list[dict[str, float]], rule: EarlyStop | None) -> bool:
    if rule is None or len(history) <= 2 * rule.patience:
        return False
    losses = [line["outer_loss"] for line in history]
    recent, before = losses[-rule.patience :], losses[-2 * rule.patience : -rule.patience]
    return sum(recent) / rule.patience > sum(before) / rule.patience - rule.least


def _moved(examples: Examples, device: torch.device) -> Examples:
    return replace(examples, inputs=examples.inputs.to(device), targets=examples.targets.to(device))
