"""Evaluating a stored commentary: arms, runs, verdicts by a rule that was stated before, and a certificate."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from commentary_hub.artefact import library_versions
from commentary_hub.errors import EvidenceError
from commentary_hub.evidence._arms import Arm
from commentary_hub.evidence._certificate import (
    break_even,
    detection,
    hardware,
    measured_set,
    outcome_of,
    summary_of,
    trial_record,
    verdicts_of,
)
from commentary_hub.evidence._compare import Progress, check_comparison, compare
from commentary_hub.evidence._controls import Trial, arms_of
from commentary_hub.evidence._optimisers import Schedule, TunedAdam, TunedOptimiser, TunedSGD
from commentary_hub.evidence._pieces import Pieces
from commentary_hub.evidence._runs import Comparison
from commentary_hub.evidence._statistics import INTERVAL_RULE
from commentary_hub.evidence._train import Budget, StudentLike
from commentary_hub.manifest import Evidence, Protocol
from commentary_hub.networks import network

VERDICT_RULE = (
    "Against one control: helps where the paired interval of commentary minus control lies above 0, hurts where it "
    "lies below, no difference where it holds 0. Over all: helps where it helps against every control with every "
    "student (competitors are reported beside), hurts where it hurts any student against plain training on the same "
    f"data (equal_data; none where nothing is trusted), no difference otherwise. {INTERVAL_RULE}."
)
_OPTIMISERS: dict[str, type[TunedSGD] | type[TunedAdam]] = {"sgd": TunedSGD, "adam": TunedAdam}


@dataclass(frozen=True, slots=True)
class NetworkStudent:
    """A student that a certificate can name: a network of the registry with its settings."""

    name: str
    network: str
    settings: Mapping[str, Any]

    def build(self) -> nn.Module:
        """A fresh initialisation."""
        return network(self.network, **self.settings)


@dataclass(frozen=True, slots=True)
class Settings:
    """How arms are compared; see `compare` for each.

    ``trusted_share`` is the share of the trusted examples in every arm that trains on noisy and trusted ones.
    ``competitors`` adds the plain competitors of the kind, or those that are named.
    """

    steps: int
    batch_size: int
    learning_rates: tuple[float, ...]
    seeds: int = 10
    target_accuracy: float = 0.8
    optimiser: TunedOptimiser = field(default_factory=TunedSGD)
    schedule: Schedule = "constant"
    tuning_seeds: int = 3
    points: int = 25
    trusted_share: float = 0.2
    competitors: bool | tuple[str, ...] = True

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        name = next(name for name, cls in _OPTIMISERS.items() if isinstance(self.optimiser, cls))
        return asdict(self) | {"optimiser": {"name": name} | asdict(self.optimiser)}

    @classmethod
    def from_json(cls, recorded: Mapping[str, Any]) -> Settings:
        """Settings as `to_json` wrote them; raises `EvidenceError` for others."""
        try:
            own = dict(recorded["optimiser"])
            kind = _OPTIMISERS[own.pop("name")]
            if "betas" in own:
                own["betas"] = tuple(own["betas"])
            rates = tuple(float(rate) for rate in recorded["learning_rates"])
            rivals = recorded["competitors"]
            fixed = {"competitors": rivals if isinstance(rivals, bool) else tuple(rivals)}
            return cls(**{**recorded, **fixed, "optimiser": kind(**own), "learning_rates": rates})
        except (KeyError, TypeError, ValueError) as error:
            raise EvidenceError(f"the recorded settings cannot be run by this version: {error!r}") from error


def evaluate(
    trials: Trial | Sequence[Trial],
    students: Sequence[StudentLike],
    settings: Settings,
    *,
    data: Mapping[str, Any] | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    pieces: Pieces | None = None,
) -> Evidence:
    """Measure whether a commentary helps new ``students``, and say so in a certificate.

    The evidence belongs to the first trial's commentary. Further trials are the same recipe on other splits with
    commentaries learned there: with them the intervals cover learning, split and student, with one trial only the
    student's seed. Every trial has student seeds of its own. ``data`` is recorded as it is: how to get the splits
    again. ``pieces`` keeps finished pieces for resuming.

    Raises `EvidenceError` for leakage and for settings that measure nothing, before any training. Cost: that of
    `compare` for each trial.
    """
    every = (trials,) if isinstance(trials, Trial) else tuple(trials)
    if not every:
        raise EvidenceError("there is nothing to evaluate: give at least one trial")
    started = time.monotonic()
    all_arms = [arms_of(trial, share=settings.trusted_share, competitors=settings.competitors) for trial in every]
    compared = []
    for number, (trial, arms) in enumerate(zip(every, all_arms, strict=True)):
        said = None if progress is None else _of_all(progress, number, len(every))
        compared.append(run_trial(trial, arms, students, settings, number, device=device, progress=said, pieces=pieces))
    joined = Comparison.joined(compared)
    stored, arms = every[0].stored, all_arms[0]
    verdicts = verdicts_of(joined)
    outcome = outcome_of(verdicts, arms)
    return Evidence(
        tensor_digest=stored.tensor_digest,
        settings_digest=stored.manifest.settings_digest,
        dataset=stored.manifest.dataset.identity.id,
        protocol=_protocol(every, compared, arms, students, settings, data),
        measurements=joined.measurements(),
        verdicts=verdicts,
        outcome=outcome,
        summary=summary_of(outcome, joined, verdicts, arms, settings.steps),
        detection=detection(every),
        break_even=break_even(stored, joined, arms),
        hardware=hardware(device),
        versions=library_versions(),
        cost_seconds=time.monotonic() - started,
    )


def check_trial(trial: Trial, students: Sequence[StudentLike], settings: Settings) -> None:
    """Raise what `evaluate` would raise for this trial, before anything is trained."""
    arms = arms_of(trial, share=settings.trusted_share, competitors=settings.competitors)
    budget = Budget(settings.steps, settings.batch_size, settings.optimiser, settings.schedule)
    check_comparison(
        arms, students, trial.selection, trial.test, budget, tuple(sorted(settings.learning_rates)),
        tuple(range(settings.seeds)), settings.tuning_seeds, settings.points,
    )  # fmt: skip


def run_trial(
    trial: Trial,
    arms: Sequence[Arm],
    students: Sequence[StudentLike],
    settings: Settings,
    number: int,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    pieces: Pieces | None = None,
) -> Comparison:
    """Trial ``number`` of an evaluation: its student seeds are number · 1000 and following."""
    return compare(
        arms,
        students,
        selection=trial.selection,
        test=trial.test,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rates=settings.learning_rates,
        seeds=range(number * 1000, number * 1000 + settings.seeds),
        target_accuracy=settings.target_accuracy,
        optimiser=settings.optimiser,
        schedule=settings.schedule,
        tuning_seeds=settings.tuning_seeds,
        points=settings.points,
        device=device,
        progress=progress,
        pieces=pieces,
    )


def _of_all(progress: Progress, number: int, trials: int) -> Progress:
    def said(done: int, total: int, what: str) -> None:
        progress(number * total + done, trials * total, what if trials == 1 else f"trial {number + 1} · {what}")

    return said


def _protocol(
    trials: Sequence[Trial],
    compared: Sequence[Comparison],
    arms: Sequence[Arm],
    students: Sequence[StudentLike],
    settings: Settings,
    data: Mapping[str, Any] | None,
) -> Protocol:
    """Everything that is needed to run it again, and what each trial gave."""
    known = {
        student.name: {"network": student.network, "settings": dict(student.settings)}
        for student in students
        if isinstance(student, NetworkStudent)
    }
    parameters = {
        "settings": settings.to_json(),
        "students": known,
        "arms": [{"name": arm.name, "role": arm.role, "note": arm.note} for arm in arms],
        "trials": [trial_record(trial, one, arms) for trial, one in zip(trials, compared, strict=True)],
    }
    return Protocol(
        students=tuple(student.name for student in students),
        controls=tuple(arm.name for arm in arms[1:]),
        seeds=settings.seeds,
        learning_runs=len({trial.stored.tensor_digest for trial in trials}),
        splits=len({measured_set(trial) for trial in trials}),
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rates=settings.learning_rates,
        selection=(
            f"Learning rates (and a competitor's own settings) are chosen by the mean accuracy of "
            f"{settings.tuning_seeds} runs on {len(trials[0].selection)} examples that no reported number uses. "
            f"Trusted examples make up at least {settings.trusted_share:.0%} of the training examples in every arm "
            "but none and clean_only."
        ),
        target_accuracy=settings.target_accuracy,
        rule=VERDICT_RULE,
        parameters=parameters | ({} if data is None else {"data": dict(data)}),
    )
