"""Comparing arms: learning rates tuned, seeds paired, every number from runs that the tuning never saw."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from commentary_hub.data import Examples, check_comparable, check_disjoint, shared_keys
from commentary_hub.errors import EvidenceError
from commentary_hub.evidence._arms import Arm
from commentary_hub.evidence._optimisers import Schedule, TunedOptimiser, TunedSGD
from commentary_hub.evidence._pieces import Pieces, piece_key
from commentary_hub.evidence._runs import Comparison, Runs
from commentary_hub.evidence._train import Budget, StudentLike, check_student, train

TUNING_SEED = 1_000_003  # tuning runs have seeds of their own: TUNING_SEED, TUNING_SEED + 1, …
Progress = Callable[[int, int, str], None]


def compare(
    arms: Sequence[Arm],
    students: Sequence[StudentLike],
    *,
    selection: Examples,
    test: Examples,
    steps: int,
    batch_size: int,
    learning_rates: Sequence[float],
    seeds: int | Sequence[int],
    target_accuracy: float = 0.8,
    optimiser: TunedOptimiser | None = None,
    schedule: Schedule = "constant",
    tuning_seeds: int = 3,
    points: int = 25,
    device: torch.device | str = "cpu",
    stacked: bool | None = None,
    progress: Progress | None = None,
    pieces: Pieces | None = None,
) -> Comparison:
    """Train every student under every arm at the same budget, and measure accuracy on ``test``.

    For each student and arm the learning rate with the highest mean accuracy on ``selection`` is chosen from
    ``learning_rates`` with ``tuning_seeds`` runs each, whose seeds are not used again; then one run for each of
    ``seeds`` (a count, or the seeds) is measured on ``test``, at about ``points`` steps of the run. The same seed means
    the same initialisation in every arm and, in arms with equally many examples, the same batches.
    ``progress(done, total, what)`` is called after each piece; ``pieces`` keeps finished pieces, so that an
    interrupted comparison goes on where it was.

    Raises `SplitError` where selection, test and an arm's examples overlap or cannot be compared, `EvidenceError` for
    settings that measure nothing. Cost: students · arms · (tuning_seeds · rates + seeds) · steps student steps, many at
    once.
    """
    own_seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    budget = Budget(steps, batch_size, optimiser or TunedSGD(), schedule)
    rates = tuple(sorted(learning_rates))
    check_comparison(arms, students, selection, test, budget, rates, own_seeds, tuning_seeds, points)
    classes = _classes(arms, selection, test)
    started = time.monotonic()
    runs: dict[tuple[str, str], tuple[Runs, ...]] = {}
    job = _Job(selection, test, classes, budget, rates, own_seeds, tuning_seeds, _grid(steps, points), device, stacked)
    total = len(students) * len(arms)
    for student in students:
        for arm in arms:
            runs[student.name, arm.name] = (job.piece(student, arm, pieces),)
            if progress is not None:
                progress(len(runs), total, f"{student.name} · {arm.name}")
    names = tuple(student.name for student in students), tuple(arm.name for arm in arms)
    return Comparison(*names, runs, target_accuracy, time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class _Job:
    selection: Examples
    test: Examples
    classes: int
    budget: Budget
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    tuning_seeds: int
    points: tuple[int, ...]
    device: torch.device | str
    stacked: bool | None

    def piece(self, student: StudentLike, arm: Arm, pieces: Pieces | None) -> Runs:
        if pieces is None:
            return self.run(student, arm)
        settings = (self.budget, self.rates, self.seeds, self.tuning_seeds, self.points, self.classes)
        key = piece_key(student, arm, (self.selection, self.test), settings)
        known = pieces.get(key)
        if known is not None:
            return Runs.from_json(known)
        runs = self.run(student, arm)
        pieces.put(key, runs.to_json())
        return runs

    def run(self, student: StudentLike, arm: Arm) -> Runs:
        tried = [self.tune(student, choice) for choice in arm.choices]
        which = max(range(len(tried)), key=lambda number: max(score for _, score in tried[number]))
        chosen, tuning = arm.choices[which], tried[which]
        best = max(range(len(tuning)), key=lambda number: tuning[number][1])
        started = time.monotonic()
        trained = train(
            student,
            chosen,
            seeds=self.seeds,
            rates=[tuning[best][0]],
            budget=self.budget,
            classes=self.classes,
            probes={"test": (self.test.inputs, self.test.targets)},
            at=self.points,
            device=self.device,
            stacked=self.stacked,
        )
        curves = trained.accuracy["test"].tolist()
        right = (trained.outputs["test"].argmax(-1) == self.test.targets).double()
        members = torch.nn.functional.one_hot(self.test.targets, self.classes).double()
        per_class = (right @ members) / members.sum(0).clamp_min(1)
        return Runs(
            arm=arm.name,
            student=student.name,
            variant=chosen.note,
            learning_rate=tuning[best][0],
            at_edge=len(tuning) > 1 and best in {0, len(tuning) - 1},
            tuning=tuning,
            seeds=self.seeds,
            points=self.points,
            curves=tuple(tuple(curve) for curve in curves),
            accuracy=tuple(curve[-1] for curve in curves),
            per_class=tuple(tuple(row) for row in per_class.tolist()),
            diverged=int(trained.diverged.sum()),
            seconds=time.monotonic() - started,
        )

    def tune(self, student: StudentLike, arm: Arm) -> tuple[tuple[float, float], ...]:
        """(rate, mean accuracy on the selection split after the last step), rates rising."""
        trained = train(
            student,
            arm,
            seeds=[TUNING_SEED + number for number in range(self.tuning_seeds)],
            rates=self.rates,
            budget=self.budget,
            classes=self.classes,
            probes={"selection": (self.selection.inputs, self.selection.targets)},
            at=(self.budget.steps,),
            device=self.device,
            stacked=self.stacked,
        )
        final = trained.accuracy["selection"][:, -1].reshape(self.tuning_seeds, len(self.rates))
        final[trained.diverged.reshape(final.shape)] = 0.0
        return tuple(zip(self.rates, final.mean(0).tolist(), strict=True))


def _grid(steps: int, points: int) -> tuple[int, ...]:
    return tuple(sorted({round(number * steps / points) for number in range(points + 1)}))


def _classes(arms: Sequence[Arm], selection: Examples, test: Examples) -> int:
    return max(part.class_count for part in (selection, test, *(arm.examples for arm in arms)))


def check_comparison(
    arms: Sequence[Arm],
    students: Sequence[StudentLike],
    selection: Examples,
    test: Examples,
    budget: Budget,
    rates: tuple[float, ...],
    seeds: tuple[int, ...],
    tuning_seeds: int,
    points: int,
) -> None:
    """Raise what `compare` would raise, before anything is trained; every student answers one batch."""
    for what, names in (("arm", [arm.name for arm in arms]), ("student", [one.name for one in students])):
        if not names or len(set(names)) < len(names):
            raise EvidenceError(f"there must be at least one {what}, each with a name of its own; got {names}")
    if budget.steps < 1 or budget.batch_size < 1:
        raise EvidenceError(f"steps and batch_size must be at least 1, got {budget.steps} and {budget.batch_size}")
    if points < 1:
        raise EvidenceError(f"points is {points}: each run is measured at least once, at its end")
    if not rates or rates[0] <= 0 or tuning_seeds < 1:
        raise EvidenceError(f"learning rates must be positive and tuning_seeds at least 1; got {rates}, {tuning_seeds}")
    if len(set(seeds)) < max(2, len(seeds)):
        raise EvidenceError(f"paired intervals need at least 2 seeds, all different; got {seeds}")
    if any(seed < 0 or seed >= TUNING_SEED for seed in seeds):
        raise EvidenceError(f"seeds must lie in 0 … {TUNING_SEED - 1}: the higher ones are for tuning")
    check_disjoint(selection=selection, test=test)
    for arm in arms:
        for name, part in (("selection", selection), ("test", test)):
            check_comparable(**{f"arm {arm.name!r}": arm.examples, name: part})
            shared = shared_keys(arm.examples.keys, part.keys)
            if shared:
                raise EvidenceError(
                    f"arm {arm.name!r} trains on {shared} of the {name} examples: its accuracy would measure memory; "
                    "split the data again",
                    arm=arm.name,
                    split=name,
                    shared=shared,
                )
    plain = next((arm for arm in arms if not (arm.change or arm.sees or arm.wrap)), arms[0])
    for student in students:
        check_student(student, plain, seeds, _classes(arms, selection, test))
