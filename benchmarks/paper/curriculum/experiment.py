"""Experiment 4: weights over training for clean CIFAR-10 pictures; do new students learn faster?"""

from __future__ import annotations

import numpy as np

from benchmarks.paper.figures import ACCENT, CYCLE, panels
from benchmarks.paper.section import WORDS, Section, comparison, decided, percent
from benchmarks.paper.work import Work
from commentary_hub.artefact import StoredCommentary
from commentary_hub.data import Examples
from commentary_hub.evidence import example_weights
from commentary_hub.manifest import Evidence


def run(work: Work) -> Section:
    """Evaluate the first case, which decides, and the others, which are remedies for what it may lack."""
    settings = work.plan.settings
    against, student = settings["against"], settings["student"]
    main, *others = work.plan.cases
    stored = work.evaluated(main)
    evidence = stored.evidence
    assert evidence is not None
    outcome, verdict = decided(evidence, student, against, speed=True)
    tried = []
    for case in others:
        other = work.evaluated(case).evidence
        assert other is not None
        word, numbers = decided(other, student, against, speed=True)
        tried.append(f"{case.name}: {WORDS[word]}. {numbers}")
    work.card(main)
    (_, parts), *_ = work.learning_runs(main)
    note = _draw(work, stored, parts.train, evidence, student)
    return work.section(
        outcome=outcome,
        verdict=f"{main.name}. {verdict}",
        tables=[comparison(main.name, evidence)],
        notes=[note, *settings["notes"]],
        remedies=tried,
    )


def _draw(work: Work, stored: StoredCommentary, train: Examples, evidence: Evidence, student: str) -> str:
    """Learning curves, and how the weights are spread over training; returns the spread in words."""
    figure, (left, right) = panels(2)
    results = evidence.protocol.parameters["trials"][0]["results"]
    shown = [
        one for one in results if one["student"] == student and one["arm"] in {"commentary", "equal_data", "shuffled"}
    ]
    for one, colour in zip(shown, CYCLE, strict=False):
        left.plot(one["points"], [100 * value for value in one["mean_curve"]], color=colour, label=one["arm"])
    left.set_xlabel("steps of training", fontsize=8)
    left.set_ylabel(f"test accuracy of a new {student}, %", fontsize=8)
    left.legend(frameon=False, fontsize=8)
    weights = example_weights(stored, train).double().numpy()
    ends = np.percentile(weights, [5, 25, 50, 75, 95], axis=1)
    at = (np.arange(len(weights)) + 0.5) / len(weights)
    right.fill_between(at, ends[0], ends[4], color=ACCENT, alpha=0.15, linewidth=0, label="5 to 95 %")
    right.fill_between(at, ends[1], ends[3], color=ACCENT, alpha=0.3, linewidth=0, label="25 to 75 %")
    right.plot(at, ends[2], color=ACCENT, label="median")
    right.set_ylim(0, 1)
    right.set_xlabel("share of the training", fontsize=8)
    right.set_ylabel("weight", fontsize=8)
    right.legend(frameon=False, fontsize=8)
    work.figure(
        "curves", figure, "Learning curves of new students (first split), and the learned weights over training."
    )
    size = weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1) / weights.shape[1]
    return (
        f"Effective sample size of the learned weights, in percent of the examples: {percent(float(size[0]))} at the "
        f"beginning, {percent(float(size[-1]))} at the end."
    )
