"""From runs to a certificate: verdicts, summary, detection, break-even, and the record of each trial."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from commentary_hub.artefact import StoredCommentary
from commentary_hub.commentaries import Stage
from commentary_hub.data import Examples
from commentary_hub.errors import EvidenceError
from commentary_hub.evidence._arms import COMMENTARY, Arm
from commentary_hub.evidence._controls import Trial, example_weights
from commentary_hub.evidence._runs import Comparison
from commentary_hub.evidence._statistics import interval
from commentary_hub.manifest import BreakEven, Outcome, Verdict, judge

_LONGEST = 4096  # characters of a text in a certificate
OUTCOME_WORDS = {"helps": "helps", "no_difference": "makes no difference", "hurts": "hurts"}
"""How a sentence about the commentary goes on, by outcome."""


def verdicts_of(compared: Comparison) -> tuple[Verdict, ...]:
    """The commentary against every other arm, for every student."""
    found = []
    for student in compared.students:
        for arm in compared.arms:
            if arm == COMMENTARY:
                continue
            found.append(verdict_of(student, arm, *compared.difference(student, arm)))
    return tuple(found)


def verdict_of(student: str, control: str, mean: float, bounds: tuple[float, float]) -> Verdict:
    """The verdict on the difference of commentary minus ``control``, of which ``bounds`` are the 95 % interval."""
    outcome = judge(bounds)
    sentence = (
        f"With student {student} the commentary {OUTCOME_WORDS[outcome]} against {control}: "
        f"{100 * mean:+.1f} points of accuracy [{100 * bounds[0]:+.1f}, {100 * bounds[1]:+.1f}]."
    )
    return Verdict(student=student, control=control, outcome=outcome, sentence=sentence)


def outcome_of(verdicts: Sequence[Verdict], arms: Sequence[Arm]) -> Outcome:
    """The overall outcome by the stated rule (`VERDICT_RULE`)."""
    plain = plain_of(arms)
    if any(one.outcome == "hurts" and one.control == plain for one in verdicts):
        return "hurts"
    controls = {arm.name for arm in arms if arm.role == "control"}
    asked = [one for one in verdicts if one.control in controls]
    return "helps" if asked and all(one.outcome == "helps" for one in asked) else "no_difference"


def plain_of(arms: Sequence[Arm]) -> str:
    """Plain training on the same data: equal_data where there is one, else none."""
    names = {arm.name for arm in arms}
    return "equal_data" if "equal_data" in names else "none"


def summary_of(
    outcome: Outcome, compared: Comparison, verdicts: Sequence[Verdict], arms: Sequence[Arm], steps: int
) -> str:
    """Plain words: the numbers against plain training, then what it was not better than."""
    plain = plain_of(arms)
    parts = [f"The commentary {OUTCOME_WORDS[outcome]} by the stated rule."]
    for student in compared.students:
        if plain not in compared.arms:
            continue
        parts.append(_reached(compared, student, plain, steps))
    roles = {arm.name: arm.role for arm in arms}
    for word, wanted in (("No difference", "no_difference"), ("Worse", "hurts")):
        named = [f"{one.control} ({roles[one.control]}, {one.student})" for one in verdicts if one.outcome == wanted]
        if named:
            parts.append(
                f"{word} than against: {', '.join(named)}." if wanted == "hurts" else f"{word} to: {', '.join(named)}."
            )
    units = len(next(iter(compared.runs.values())))
    if units == 1:
        parts.append("One learning run and one split: the intervals cover student seeds only.")
    return textwrap.shorten(" ".join(parts), _LONGEST, placeholder=" …")


def _reached(compared: Comparison, student: str, plain: str, steps: int) -> str:
    """The commentary's accuracy beside that of plain training, on the same examples and without the trusted ones."""
    arms = [COMMENTARY, plain, *(["none"] if plain != "none" and "none" in compared.arms else [])]
    reached = [f"{100 * compared.measurement(student, arm).accuracy_mean:.1f} %" for arm in arms]
    without = "without" if plain == "none" else "on the same examples without"
    also = f", {reached[2]} without the trusted ones either (none)" if len(reached) > 2 else ""
    return (
        f"New students {student} reach {reached[0]} test accuracy with it after {steps} steps, {reached[1]} {without} "
        f"({plain}){also}."
    )


def detection(trials: Sequence[Trial]) -> dict[str, float]:
    """AUROC of weights (and of other scores) against the known mistakes, mean over the trials that know them."""
    found: dict[str, list[float]] = {}
    for trial in trials:
        if trial.mistaken is None:
            continue
        scores = dict(trial.scores)
        if trial.stored.commentary.stage is Stage.WEIGHT:
            scores["weights"] = example_weights(trial.stored, trial.train).mean(0)
        for name, score in scores.items():
            found.setdefault(f"{name}_auroc", []).append(auroc(score, ~trial.mistaken))
    return {name: float(np.mean(values)) for name, values in found.items()}


def auroc(scores: Tensor, positive: Tensor) -> float:
    """The chance that a positive example scores higher than another, ties counting half (Mann–Whitney's U).

    >>> auroc(torch.tensor([0.9, 0.8, 0.1, 0.8]), torch.tensor([True, True, False, False]))
    0.875
    """
    chosen = positive.numpy().astype(bool)
    ours, others = int(chosen.sum()), int((~chosen).sum())
    if scores.shape != positive.shape or not ours or not others:
        raise EvidenceError(
            f"detection needs a score for each of {len(positive)} examples, of both sorts; got {list(scores.shape)} "
            f"scores, {ours} right and {others} mistaken"
        )
    ranks = rankdata(scores.double().numpy())
    return float((ranks[chosen].sum() - ours * (ours + 1) / 2) / (ours * others))


def break_even(stored: StoredCommentary, compared: Comparison, arms: Sequence[Arm]) -> BreakEven | None:
    """Reuses that pay for the learning; ``None`` where the cost of learning is not recorded.

    One reuse saves the student steps between the first measured step at which the mean curve under the commentary
    reaches the final accuracy of plain training, and the end of plain training; in seconds of this machine, where
    students were trained many at once. The mean over students.
    """
    plain = plain_of(arms)
    cost = stored.manifest.cost
    if cost is None or plain not in compared.arms:
        return None
    saved = []
    for student in compared.students:
        ours, theirs = compared.runs[student, COMMENTARY], compared.runs[student, plain]
        points = ours[0].points
        curve = np.mean([np.mean(run.curves, axis=0) for run in ours], axis=0)
        goal = np.mean([np.mean(run.accuracy) for run in theirs])
        first = next((step for step, value in zip(points, curve, strict=True) if value >= goal), points[-1])
        trained = sum(run.points[-1] * len(run.seeds) for run in theirs)
        saved.append((points[-1] - first) * sum(run.seconds for run in theirs) / trained)
    seconds = float(np.mean(saved))
    reuses = cost.seconds / seconds if seconds > 0 else None
    return BreakEven(learning_seconds=cost.seconds, saved_seconds_per_reuse=seconds, reuses=reuses)


def hardware(device: torch.device | str) -> str:
    """The machine in words: processor or accelerator, and the threads in use."""
    place = torch.device(device)
    if place.type == "cuda":
        return torch.cuda.get_device_name(place)
    return f"{platform.machine()} CPU, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads"


def trial_record(trial: Trial, compared: Comparison, arms: Sequence[Arm]) -> dict[str, Any]:
    """What a trial was run on and what it gave, each run by itself: what a verification compares itself with."""
    sets = {"train": trial.train, "selection": trial.selection, "test": trial.test}
    if trial.trusted is not None:
        sets["trusted"] = trial.trusted
    results = []
    for (student, arm), runs in compared.runs.items():
        (run,) = runs
        results.append(
            {
                "student": student,
                "arm": arm,
                "variant": run.variant,
                "learning_rate": run.learning_rate,
                "at_edge": run.at_edge,
                "tuning": [list(pair) for pair in run.tuning],
                "seeds": list(run.seeds),
                "accuracy": list(run.accuracy),
                "accuracy_ci95": list(interval([list(run.accuracy)], bounds=(0, 1))),
                "difference_ci95": None if arm == COMMENTARY else list(compared.difference(student, arm)[1]),
                "mean_curve": [float(value) for value in np.mean(run.curves, axis=0)],
                "points": list(run.points),
                "diverged": run.diverged,
            }
        )
    return {
        "tensor_digest": trial.stored.tensor_digest,
        "sets": {name: {"examples": len(part), "digest": set_digest(part)} for name, part in sets.items()},
        "filters": {name: packed(keep) for name, keep in trial.filters.items() if name in compared.arms},
        "competitors": [arm.name for arm in arms if arm.role == "competitor"],
        "results": results,
    }


def set_digest(examples: Examples) -> str:
    """A digest of a set: its keys and targets, in order."""
    digest = hashlib.blake2b(examples.keys.tobytes(), digest_size=16)
    digest.update(examples.target_digests.tobytes())
    return digest.hexdigest()


def measured_set(trial: Trial) -> str:
    """What tells splits apart: the digest of the test examples."""
    return set_digest(trial.test)


def packed(keep: Tensor) -> str:
    """A bool [N] as base64 of packed bits.

    >>> unpacked(packed(torch.tensor([True, False, True])), 3)
    tensor([ True, False,  True])
    """
    return base64.b64encode(np.packbits(keep.numpy()).tobytes()).decode()


def unpacked(text: str, size: int) -> Tensor:
    """The bool [N] that `packed` wrote; raises `EvidenceError` for anything else."""
    try:
        bits = np.unpackbits(np.frombuffer(base64.b64decode(text, validate=True), np.uint8))
    except (ValueError, TypeError) as error:
        raise EvidenceError(f"a recorded filter cannot be read: {error}") from error
    if not size <= len(bits) < size + 8:
        raise EvidenceError(f"a recorded filter is for another number of examples than {size}")
    return torch.from_numpy(bits[:size].astype(bool))
