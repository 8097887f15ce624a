"""Experiment 1: wrong labels, a few trusted examples; learned weights against every plain way of using both."""

from __future__ import annotations

import torch

from benchmarks.paper.figures import ACCENT, CYCLE, GREY, draw_arms, panels
from benchmarks.paper.section import WORDS, Section, Table, comparison, decided, percent
from benchmarks.paper.work import Work
from commentary_hub.artefact import StoredCommentary
from commentary_hub.data import corrupt_labels, open_examples, split_examples
from commentary_hub.evidence import example_weights
from commentary_hub.manifest import Evidence
from commentary_hub.recipes import Recipe

SHOWN = ("none", "shuffled", "equal_data", "clean_only", "cleanlab")


def run(work: Work) -> Section:
    """Learn and evaluate every case; the plan's settings say which case decides, with which student, against what."""
    settings = work.plan.settings
    found: dict[str, Evidence] = {}
    drawn: dict[str, StoredCommentary] = {}
    for case in work.plan.cases:
        stored = drawn[case.name] = work.evaluated(case)
        assert stored.evidence is not None
        found[case.name] = stored.evidence
    chosen = settings["case"]
    outcome, verdict = decided(found[chosen], settings["student"], settings["against"])
    case = next(case for case in work.plan.cases if case.name == chosen)
    for one in work.plan.cases:
        if one.name in settings["cards"]:
            work.card(one)
    _draw(work, case.recipe, drawn[chosen], found[chosen], settings["student"])
    _draw_detection(work, found)
    tables = [overview(found), comparison(chosen, found[chosen])]
    return work.section(outcome=outcome, verdict=f"{chosen}. {verdict}", tables=tables, notes=settings["notes"])


def overview(found: dict[str, Evidence]) -> Table:
    """One row for each case and student: detection, then accuracy under each arm."""
    columns = ["case", "student", "AUROC weights / cleanlab", "commentary", *SHOWN, "not better than"]
    rows = []
    for name, evidence in found.items():
        scores = [evidence.detection.get(f"{one}_auroc") for one in ("weights", "cleanlab")]
        for student in evidence.protocol.students:
            arms = {one.control: one for one in evidence.measurements if one.student == student}
            others = [one for one in evidence.verdicts if one.student == student and one.outcome != "helps"]
            detected = " / ".join("–" if score is None else f"{score:.2f}" for score in scores)
            cells = [percent(arms[arm].accuracy_mean) if arm in arms else "–" for arm in SHOWN]
            ours = arms["commentary"]
            weaker = ", ".join(f"{one.control} ({WORDS[one.outcome]})" for one in others) or "–"
            rows.append([name, student, detected, percent(ours.accuracy_mean, ours.accuracy_ci95), *cells, weaker])
    return Table("Test accuracy of new students, %; detection of the wrong labels", columns, rows)


def _draw(work: Work, recipe: Recipe, stored: StoredCommentary, evidence: Evidence, student: str) -> None:
    """The weights of right and of wrong labels, and the arms."""
    data = recipe.data
    assert data.corruption is not None
    sizes = {"train": data.train, "selection": data.selection, "test": data.test, "validation": data.validation}
    parts = split_examples(open_examples(data.dataset, size=data.size, limit=data.limit), sizes, seed=data.seed)
    train, mistaken = corrupt_labels(
        parts["train"], data.corruption.share, noise=data.corruption.noise, seed=data.corruption.seed
    )
    weights = example_weights(stored, train).mean(0)
    figure, (left, right) = panels(2)
    edges = torch.linspace(0, 1, 26).tolist()
    for part, colour, name in ((~mistaken, ACCENT, "right label"), (mistaken, GREY, "wrong label")):
        left.hist(weights[part].tolist(), bins=edges, color=colour, alpha=0.75, label=name)
    left.set_xlabel("learned weight", fontsize=8)
    left.set_ylabel("training examples", fontsize=8)
    left.legend(frameon=False, fontsize=8)
    draw_arms(right, evidence, student)
    work.figure("weights", figure, f"{work.plan.settings['case']}: learned weights by whether the label is right, and "
                "the test accuracy of new students with 95 % intervals.")  # fmt: skip


def _draw_detection(work: Work, found: dict[str, Evidence]) -> None:
    """How well the weights find the wrong labels, beside cleanlab."""
    figure, (axes,) = panels(1, height=0.9 + 0.32 * len(found))
    names = list(found)[::-1]
    for mark, colour, marker in (("weights", ACCENT, "o"), ("cleanlab", CYCLE[1], "s")):
        known = [(place, found[name].detection[f"{mark}_auroc"]) for place, name in enumerate(names)
                 if f"{mark}_auroc" in found[name].detection]  # fmt: skip
        axes.plot([score for _, score in known], [place for place, _ in known], marker, color=colour, label=mark)
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("AUROC: right labels above wrong ones (0.5 is chance)", fontsize=8)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    work.figure(
        "detection", figure, "Detection of the wrong labels: learned weights beside cleanlab's self-confidence."
    )
