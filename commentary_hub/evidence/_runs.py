"""Runs and what is computed from them: accuracies, learning curves, paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from commentary_hub.errors import EvidenceError
from commentary_hub.evidence._arms import COMMENTARY
from commentary_hub.evidence._statistics import differences, interval, mean_of
from commentary_hub.manifest import Measurement


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs of one student under one arm, at the learning rate chosen for it.

    ``variant`` is the note of the variant of the arm that was chosen with it, ``tuning`` holds (rate, mean selection
    accuracy) of that variant; ``at_edge`` says that the best rate was the grid's first or last,
    where a better one may lie outside. ``curves`` [seeds][points] are test accuracies at ``points`` (steps),
    ``accuracy`` [seeds] the last ones, ``per_class`` [seeds][classes] the accuracies on the test examples of each
    class (0 for a class without any). ``diverged`` counts runs with parameters that are not finite. ``seconds`` is the
    time of these runs, tuning left out.
    """

    arm: str
    student: str
    variant: str
    learning_rate: float
    at_edge: bool
    tuning: tuple[tuple[float, float], ...]
    seeds: tuple[int, ...]
    points: tuple[int, ...]
    curves: tuple[tuple[float, ...], ...]
    accuracy: tuple[float, ...]
    per_class: tuple[tuple[float, ...], ...]
    diverged: int
    seconds: float

    @classmethod
    def from_json(cls, piece: dict[str, Any]) -> Runs:
        """Runs as `to_json` wrote them."""
        nested = ("tuning", "curves", "per_class")
        flat = ("seeds", "points", "accuracy")
        fixed: dict[str, Any] = {name: tuple(tuple(row) for row in piece[name]) for name in nested}
        return cls(**(piece | fixed | {name: tuple(piece[name]) for name in flat}))

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def areas(self) -> list[float]:
        """The area under each learning curve over steps, divided by the steps: the mean accuracy while training."""
        steps = np.array(self.points, dtype=np.float64)
        return [float(np.trapezoid(curve, steps) / (steps[-1] - steps[0])) for curve in self.curves]

    def steps_to(self, target: float) -> list[int | None]:
        """For each seed the first measured step with at least the ``target`` accuracy (``None``: never)."""
        return [
            next((step for step, value in zip(self.points, curve, strict=True) if value >= target), None)
            for curve in self.curves
        ]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The runs of all students under all arms: of one trial, or (see `joined`) of several.

    ``runs[student, arm]`` has one entry per trial. All statistics pair runs by trial and seed.
    """

    students: tuple[str, ...]
    arms: tuple[str, ...]
    runs: dict[tuple[str, str], tuple[Runs, ...]]
    target_accuracy: float
    seconds: float

    @classmethod
    def joined(cls, trials: Sequence[Comparison]) -> Comparison:
        """Several trials (splits, learning runs) of the same students and arms as one comparison."""
        first = trials[0]
        if any((trial.students, trial.arms) != (first.students, first.arms) for trial in trials):
            raise EvidenceError("trials with other students or arms cannot be joined")
        runs = {key: tuple(run for trial in trials for run in trial.runs[key]) for key in first.runs}
        seconds = sum(trial.seconds for trial in trials)
        return cls(first.students, first.arms, runs, first.target_accuracy, seconds)

    def accuracies(self, student: str, arm: str) -> list[list[float]]:
        """Final test accuracies [trials][seeds]."""
        return [list(run.accuracy) for run in self.runs[student, arm]]

    def areas(self, student: str, arm: str) -> list[list[float]]:
        """Areas under the learning curves [trials][seeds]."""
        return [run.areas() for run in self.runs[student, arm]]

    def difference(self, student: str, arm: str) -> tuple[float, tuple[float, float]]:
        """The mean of *commentary minus arm* in final accuracy, paired, and its 95 % interval."""
        paired = differences(self.accuracies(student, COMMENTARY), self.accuracies(student, arm))
        return mean_of(paired), interval(paired, bounds=(-1, 1))

    def measurement(self, student: str, arm: str) -> Measurement:
        """All numbers of one arm, as evidence stores them."""
        runs = self.runs[student, arm]
        accuracy, areas = self.accuracies(student, arm), self.areas(student, arm)
        reached = [step for run in runs for step in run.steps_to(self.target_accuracy)]
        steps = [step for step in reached if step is not None]
        against: dict[str, Any] = {}
        if arm != COMMENTARY and COMMENTARY in self.arms:
            mean, bounds = self.difference(student, arm)
            ours = self.runs[student, COMMENTARY]
            classes = np.mean(
                [
                    np.mean(one.per_class, 0) - np.mean(other.per_class, 0)
                    for one, other in zip(ours, runs, strict=True)
                ],
                axis=0,
            )
            against = {
                "difference_mean": mean,
                "difference_ci95": bounds,
                "curve_area_difference_ci95": interval(
                    differences(self.areas(student, COMMENTARY), areas), bounds=(-1, 1)
                ),
                "per_class_difference": tuple(float(value) for value in classes),
            }
        return Measurement(
            student=student,
            control=arm,
            runs=len(reached),
            accuracy_mean=mean_of(accuracy),
            accuracy_ci95=interval(accuracy, bounds=(0, 1)),
            learning_rate=runs[0].learning_rate,
            steps_to_target=float(np.median(steps)) if steps else None,
            reached_target=len(steps) / len(reached),
            curve_area_mean=mean_of(areas),
            **against,
        )

    def measurements(self) -> tuple[Measurement, ...]:
        """All measurements, students in order, arms in order."""
        return tuple(self.measurement(student, arm) for student in self.students for arm in self.arms)

    def rows(self) -> list[dict[str, Any]]:
        """One flat row for each student and arm, as ``results.json`` of the demo holds them (fractions)."""
        found = []
        for one in self.measurements():
            difference = one.difference_ci95
            found.append(
                {
                    "student": one.student,
                    "control": one.control,
                    "accuracy_mean": one.accuracy_mean,
                    "accuracy_ci95": list(one.accuracy_ci95),
                    "seeds": one.runs,
                    "commentary_minus_this_ci95": None if difference is None else list(difference),
                    "commentary_minus_this_mean": one.difference_mean,
                    "steps_to_target": one.steps_to_target,
                    "reached_target": one.reached_target,
                    "learning_rate": one.learning_rate,
                }
            )
        return found
