"""RESULTS.md, put together from the results of all experiments that were run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.paper.plan import Plan
from benchmarks.paper.section import WORDS, Section

HEAD = """# The paper's experiments, measured here

Written by `make paper PROFILE=cpu` from benchmarks/paper/results/; do not edit. Every experiment's criterion, grid and
seeds stand in its plan (`<experiment>/cpu.toml`, `full.toml`) and were committed before the run that is reported; where
a plan was changed after a look at results, its notes say what was seen, and what decides was measured on splits that no
look had used. Accuracies are in percent, intervals are 95 % bootstrap intervals over learning runs and splits where
there are several, and over student seeds otherwise; differences are paired."""


def write_report(path: Path, plans: Path, experiments: Sequence[str]) -> None:
    """Write ``path`` from ``results/<profile>/<experiment>.json`` beside it; what was not run is named as such."""
    found = {
        (profile, name): Section.read(file)
        for profile in ("cpu", "full")
        for name in experiments
        if (file := path.parent / "results" / profile / f"{name}.json").is_file()
    }
    lines = ["| experiment | CPU profile | full profile |", "| --- | --- | --- |"]
    for number, name in enumerate(experiments, 1):
        cells = [_word(found.get((profile, name)), plans / name / f"{profile}.toml") for profile in ("cpu", "full")]
        title = next((one.title for (_, other), one in found.items() if other == name), name.replace("_", " "))
        lines.append(f"| {number}. {title} | {cells[0]} | {cells[1]} |")
    parts = [HEAD, "\n".join(lines)]
    for profile, heading in (("cpu", "# CPU profile"), ("full", "# Full profile")):
        sections = [found[profile, name].markdown(number) for number, name in enumerate(experiments, 1)
                    if (profile, name) in found]  # fmt: skip
        parts += [heading, *sections] if sections else []
    if not any(profile == "full" for profile, _ in found):
        parts.append(_not_run(plans, experiments))
    path.write_text("\n\n".join(parts) + "\n")


def _word(section: Section | None, plan: Path) -> str:
    if section is not None:
        return WORDS[section.outcome]
    return f"not run; about {Plan.read(plan).hours:g} h" if plan.is_file() else "no plan yet"


def _not_run(plans: Path, experiments: Sequence[str]) -> str:
    hours = [Plan.read(file).hours for name in experiments if (file := plans / name / "full.toml").is_file()]
    return (
        "# Full profile\n\nNot run: no GPU was at hand. `make paper PROFILE=full` runs it, or, in pieces of ten "
        "minutes, `until timeout 590 python benchmarks/paper/run.py --profile full; do :; done`. Estimated from the "
        f"CPU profile's times and the plans' step counts: about {sum(hours):g} hours of one GPU for the "
        f"{len(hours)} experiments (each in the table above)."
    )
