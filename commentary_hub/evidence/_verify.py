"""Verifying evidence: the recorded evaluation, run again from the artefact and the dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from commentary_hub.artefact import StoredCommentary
from commentary_hub.data import Examples
from commentary_hub.errors import EvidenceError, InputError
from commentary_hub.evidence._arms import COMMENTARY
from commentary_hub.evidence._certificate import hardware, set_digest, unpacked
from commentary_hub.evidence._compare import Progress
from commentary_hub.evidence._controls import Trial, arms_of
from commentary_hub.evidence._evaluate import NetworkStudent, Settings, run_trial
from commentary_hub.evidence._pieces import Pieces
from commentary_hub.evidence._runs import Comparison
from commentary_hub.evidence._train import StudentLike
from commentary_hub.manifest import Evidence, Verification

AGREEMENT_RULE = (
    "agrees: for every student and arm of this commentary's own trial, run again with the recorded seeds, the mean "
    "accuracy lies within the recorded 95 % interval of the mean, and the mean paired difference to the commentary "
    "within its recorded interval (each widened by one test example, for rounding)"
)


def verify(
    stored: StoredCommentary,
    *,
    train: Examples,
    trusted: Examples | None,
    selection: Examples,
    test: Examples,
    account: str,
    students: Sequence[StudentLike] | None = None,
    evidence: Evidence | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    pieces: Pieces | None = None,
) -> Verification:
    """Run the recorded evaluation of ``stored`` again and say whether it agrees (`AGREEMENT_RULE`).

    The sets must be those that were measured (their digests are in the evidence). ``students`` defaults to the
    networks that the evidence names. Of an evaluation over several trials the one with this very commentary is run:
    the other commentaries are not in the artefact. Raises `EvidenceError` where there is no evidence, it belongs to
    other tensors, the sets differ, leak, or a student is not known. Cost: that of one trial.
    """
    check_repeatable(stored)
    recorded = evidence or stored.evidence
    if recorded is None:
        raise EvidenceError(f"{stored.manifest.name} carries no evidence: evaluate it first")
    if not recorded.describes(stored.manifest):
        raise EvidenceError(f"the evidence was measured with other tensors or settings than {stored.manifest.name} has")
    settings, number, record = _recorded_trial(recorded, stored.tensor_digest)
    sets = {"train": train, "selection": selection, "test": test} | ({} if trusted is None else {"trusted": trusted})
    _check_sets(sets, record)
    filters = {name: unpacked(text, len(train)) for name, text in record.get("filters", {}).items()}
    trial = Trial(stored, train, trusted, selection, test, filters=filters)
    arms = arms_of(trial, share=settings.trusted_share, competitors=settings.competitors)
    own = students or _recorded_students(recorded)
    again = run_trial(trial, arms, own, settings, number, device=device, progress=progress, pieces=pieces)
    apart = disagreements(again, record["results"], tolerance=1 / len(test))
    checked = len(record["results"])
    detail = f"{checked - len(apart)} of {checked} arms within the recorded intervals; {AGREEMENT_RULE}."
    if apart:
        detail = f"{'; '.join(apart[:8])}. {detail}"
    return Verification(
        account=account,
        date=datetime.now(UTC).date().isoformat(),
        hardware=hardware(device),
        agrees=not apart,
        detail=detail[:4096],
        tensor_digest=stored.tensor_digest,
    )


def check_repeatable(stored: StoredCommentary) -> None:
    """Raise `EvidenceError` where the evidence says that an experiment's script measured it, which alone can again."""
    script = None if stored.evidence is None else stored.evidence.protocol.parameters.get("experiment")
    if script is not None:
        raise EvidenceError(
            f"the evidence of {stored.manifest.name} was measured by {script}, which verify cannot run: run that "
            "experiment again"
        )


def verified(evidence: Evidence, verification: Verification) -> Evidence:
    """The evidence with one more verification; raises `EvidenceError` where that is of other tensors."""
    if verification.tensor_digest != evidence.tensor_digest:
        raise EvidenceError("the verification is of other tensors than the evidence")
    return evidence.model_copy(update={"verifications": (*evidence.verifications, verification)})


def disagreements(again: Comparison, results: Sequence[Mapping[str, Any]], *, tolerance: float) -> list[str]:
    """What lies outside the recorded intervals, each in a few words; an arm that was not run again is outside."""
    found = []
    for result in results:
        student, arm = result["student"], result["arm"]
        if (student, arm) not in again.runs:
            found.append(f"{student} · {arm} was not run again")
            continue
        mean = float(np.mean(again.accuracies(student, arm)))
        checks = [("accuracy", mean, result["accuracy_ci95"])]
        if arm != COMMENTARY:
            checks.append(("difference", again.difference(student, arm)[0], result["difference_ci95"]))
        for what, value, (low, high) in checks:
            if not low - tolerance <= value <= high + tolerance:
                found.append(f"{student} · {arm}: {what} {value:.4f} outside [{low:.4f}, {high:.4f}]")
                break
    return found


def _recorded_trial(evidence: Evidence, digest: str) -> tuple[Settings, int, Mapping[str, Any]]:
    parameters = evidence.protocol.parameters
    try:
        settings = Settings.from_json(parameters["settings"])
        trials = list(parameters["trials"])
        number = next(number for number, one in enumerate(trials) if one["tensor_digest"] == digest)
        results = [(one["student"], one["arm"], one["accuracy_ci95"]) for one in trials[number]["results"]]
    except (KeyError, TypeError, StopIteration) as error:
        raise EvidenceError(
            f"the evidence does not hold what is needed to run it again ({error!r}): it was made by another tool"
        ) from error
    if not results:
        raise EvidenceError("the evidence records no results for this commentary: there is nothing to compare with")
    return settings, number, trials[number]


def _check_sets(sets: Mapping[str, Examples], record: Mapping[str, Any]) -> None:
    wanted = record.get("sets", {})
    for name in sorted(wanted.keys() | sets.keys()):
        found = set_digest(sets[name]) if name in sets else None
        expected = wanted.get(name, {}).get("digest")
        if found != expected:
            raise EvidenceError(
                f"the {name} examples are not those that were measured: make the splits by the recorded recipe",
                split=name,
            )


def _recorded_students(evidence: Evidence) -> list[StudentLike]:
    known = evidence.protocol.parameters.get("students", {})
    students: list[StudentLike] = []
    for name in evidence.protocol.students:
        if name not in known:
            raise EvidenceError(f"the evidence does not say how student {name!r} is built: give students=")
        try:
            student = NetworkStudent(name, known[name]["network"], known[name]["settings"])
            student.build()
        except (KeyError, TypeError, InputError) as error:
            raise EvidenceError(f"the recorded student {name!r} cannot be built here: {error}") from error
        students.append(student)
    return students
