"""The evidence of support weights: numbers of episodes put into the certificate that every commentary carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from commentary_hub import artefact, evidence
from commentary_hub.artefact import StoredCommentary
from commentary_hub.evidence import COMMENTARY, INTERVAL_RULE
from commentary_hub.manifest import Evidence, Measurement, Outcome, Protocol, Verdict


def certificate(
    stored: StoredCommentary,
    found: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    notes: Mapping[str, str],
    *,
    criterion: str,
    device: str,
) -> Evidence:
    """The evidence of ``stored``, the commentary of the first run, from what every run ``found``.

    A "student" is the architecture with a share of wrong support labels; what is paired are episodes, and what is drawn
    in the bootstrap are learning runs with their alphabet splits. ``verify`` cannot run it again: ``parameters`` name
    the experiment that can.
    """
    cells = [_cell(settings, found, wrong, arm) for wrong in settings["measured"] for arm in (COMMENTARY, *notes)]
    verdicts = tuple(_verdict(one) for one in cells if one.difference_ci95 is not None)
    student = student_of(settings, settings["decides"])
    deciding = [one.outcome for one in verdicts if one.student == student and one.control in settings["against"]]
    outcome: Outcome = "hurts" if "hurts" in deciding else "no_difference"
    outcome = "helps" if set(deciding) == {"helps"} else outcome
    shares = list(found[0]["detected"])
    return Evidence(
        tensor_digest=stored.tensor_digest,
        settings_digest=stored.manifest.settings_digest,
        dataset=stored.manifest.dataset.identity.id,
        protocol=_protocol(found, settings, notes, criterion),
        measurements=tuple(cells),
        verdicts=verdicts,
        outcome=outcome,
        summary=_summary(outcome, [one for one in cells if one.student == student], settings),
        detection={
            f"weights_auroc, {float(share):.0%} wrong": float(np.mean([one["detected"][share] for one in found]))
            for share in shares
        },
        hardware=evidence.hardware(device),
        versions=artefact.library_versions(),
        cost_seconds=sum(one["seconds"] for one in found),
    )


def student_of(settings: Mapping[str, Any], wrong: float) -> str:
    """What a share of wrong support labels is called among students."""
    return f"{settings['student']['name']}, {wrong:.0%} of the support labels wrong"


def _cell(settings: Mapping[str, Any], found: Sequence[Mapping[str, Any]], wrong: float, arm: str) -> Measurement:
    runs = [one["accuracies"][str(wrong)] for one in found]
    accuracy = [one[arm] for one in runs]
    common = {
        "student": student_of(settings, wrong),
        "control": arm,
        "runs": sum(map(len, accuracy)),
        "accuracy_mean": float(np.mean(accuracy)),
        "accuracy_ci95": evidence.interval(accuracy, bounds=(0, 1)),
        "learning_rate": settings["inner_rate"],
    }
    if arm == COMMENTARY:
        return Measurement(**common)
    paired = [[a - b for a, b in zip(one[COMMENTARY], one[arm], strict=True)] for one in runs]
    return Measurement(
        **common, difference_mean=float(np.mean(paired)), difference_ci95=evidence.interval(paired, bounds=(-1, 1))
    )


def _verdict(one: Measurement) -> Verdict:
    assert one.difference_mean is not None
    assert one.difference_ci95 is not None
    return evidence.verdict_of(one.student, one.control, one.difference_mean, one.difference_ci95)


def _summary(outcome: Outcome, cells: Sequence[Measurement], settings: Mapping[str, Any]) -> str:
    level = {one.control: one.accuracy_mean for one in cells}
    return (
        f"The commentary {evidence.OUTCOME_WORDS[outcome]} by the stated rule. On {settings['ways']}-way "
        f"{settings['shots']}-shot "
        f"episodes of alphabets that nobody trained on, with {settings['decides']:.0%} of the support labels wrong, "
        f"MAML answers {100 * level[COMMENTARY]:.1f} % of the queries right with it, "
        f"{100 * level['none']:.1f} % without (none)."
    )


def _protocol(
    found: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], notes: Mapping[str, str], criterion: str
) -> Protocol:
    return Protocol(
        students=tuple(student_of(settings, wrong) for wrong in settings["measured"]),
        controls=tuple(notes),
        seeds=settings["episodes"],
        learning_runs=len(found),
        splits=len(found),
        steps=settings["inner_steps"],
        batch_size=settings["ways"] * settings["shots"],
        learning_rates=(settings["inner_rate"],),
        selection=(
            "Seeds are episodes, the same for every arm; steps and batch are those of the adaptation to one episode. "
            "The initialisation and the weights of each run are those with the least loss on episodes of validation "
            "alphabets, which no reported number uses; nothing else is tuned."
        ),
        rule=f"{criterion}. {INTERVAL_RULE}.",
        parameters={
            "experiment": "benchmarks/paper/few_shot",
            "plan": dict(settings),
            "arms": [{"name": name, "note": note} for name, note in notes.items()],
            "results": [{"run": number, **one} for number, one in enumerate(found)],
        },
    )
