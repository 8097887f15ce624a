"""Experiment 1: wrong labels, a few trusted examples; learned weights against every plain way of using both."""

from __future__ import annotations

from benchmarks.paper.section import Section, Table, comparison, decided, percent
from benchmarks.paper.work import Work
from commentary_hub.manifest import Evidence

SHOWN = ("none", "shuffled", "equal_data", "clean_only", "cleanlab")


def run(work: Work) -> Section:
    """Learn and evaluate every case; the plan's settings say which case decides, with which student, against what."""
    settings = work.plan.settings
    found = {}
    for case in work.plan.cases:
        evidence = work.evaluated(case).evidence
        assert evidence is not None
        found[case.name] = evidence
    chosen = found[settings["case"]]
    outcome, verdict = decided(chosen, settings["student"], settings["against"])
    tables = [overview(found), comparison(settings["case"], chosen)]
    return work.section(outcome=outcome, verdict=verdict, tables=tables)


def overview(found: dict[str, Evidence]) -> Table:
    """One row for each case and student: detection, then accuracy under each arm."""
    columns = ["case", "student", "AUROC weights / cleanlab", "commentary", *SHOWN, "outcome"]
    rows = []
    for name, evidence in found.items():
        scores = [evidence.detection.get(f"{one}_auroc") for one in ("weights", "cleanlab")]
        for student in evidence.protocol.students:
            arms = {one.control: one for one in evidence.measurements if one.student == student}
            detected = " / ".join("–" if score is None else f"{score:.2f}" for score in scores)
            cells = [percent(arms[arm].accuracy_mean) if arm in arms else "–" for arm in SHOWN]
            ours = arms["commentary"]
            rows.append([name, student, detected, percent(ours.accuracy_mean, ours.accuracy_ci95), *cells,
                         evidence.outcome.replace("_", " ")])  # fmt: skip
    return Table("Test accuracy of new students, %", columns, rows)
