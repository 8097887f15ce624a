"""Experiment 7, beyond the paper: text. News with wrong topics, and a mixture of sources for a language model."""

from __future__ import annotations

from benchmarks.paper.section import Section, comparison, decided
from benchmarks.paper.text import mixture
from benchmarks.paper.work import Work


def run(work: Work) -> Section:
    """Weights for AG News by the recipe, then the mixture; both have to help for the experiment to say so."""
    settings = work.plan.settings
    tables, verdicts, outcomes = [], [], []
    for case in work.plan.cases:
        found = work.evaluated(case).evidence
        assert found is not None
        tables.append(comparison(case.name, found))
        if case.name == settings["case"]:
            work.card(case)
            outcome, verdict = decided(found, settings["student"], settings["against"])
            detected = ", ".join(f"{name} {value:.2f}" for name, value in found.detection.items())
            outcomes.append(outcome)
            verdicts.append(f"{case.name}: {verdict} Detection of right labels: {detected}.")
    outcome, verdict, more, notes = mixture.measured(work)
    outcomes.append(outcome)
    return work.section(
        outcome="hurts" if "hurts" in outcomes else "helps" if set(outcomes) == {"helps"} else "no_difference",
        verdict=" ".join([*verdicts, verdict]),
        tables=[*tables, *more],
        notes=notes,
        remedies=settings.get("remedies", ()),
    )
