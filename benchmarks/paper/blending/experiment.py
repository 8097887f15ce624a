"""Experiment 3: how much of itself an example keeps, by its label and its partner's."""

from __future__ import annotations

from benchmarks.paper.figures import draw_curves, panels
from benchmarks.paper.section import Section, comparison, decided
from benchmarks.paper.work import Work
from commentary_hub import insight

SHOWN = ("none", "equal_data", "shuffled", "random", "mixup", "commentary")


def run(work: Work) -> Section:
    """Learn and evaluate every case; the plan says which one decides. Each case shows its ratios and its curves."""
    settings = work.plan.settings
    tables, decisions = [], {}
    for case in work.plan.cases:
        stored = work.evaluated(case)
        assert stored.evidence is not None
        decisions[case.name] = decided(stored.evidence, settings["student"], settings["against"])
        tables.append(comparison(case.name, stored.evidence))
        short = case.recipe.commentary.name
        picture, says = insight.pictures(stored)["blend.png"]
        work.picture(f"{short}-ratios", picture, f"{case.name}: {says}")
        caption = f"{case.name}: test accuracy of new students while they train, mean over seeds (first split)."
        figure, (axes,) = panels(1)
        draw_curves(axes, stored.evidence, settings["student"], SHOWN)
        work.figure(f"{short}-curves", figure, caption)
    work.card(next(case for case in work.plan.cases if case.name == settings["case"]))
    outcome, verdict = decisions[settings["case"]]
    others = [f"{name}: {said}" for name, (_, said) in decisions.items() if name != settings["case"]]
    return work.section(
        outcome=outcome,
        verdict=verdict,
        tables=tables,
        notes=[*settings.get("notes", ()), *others],
        remedies=settings.get("remedies", ()),
    )
