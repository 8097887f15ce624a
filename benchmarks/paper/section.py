"""What an experiment hands back, as JSON, and how it reads in RESULTS.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from commentary_hub.manifest import Evidence, judge

WORDS = {"helps": "helps", "no_difference": "no difference", "hurts": "hurts"}


@dataclass(frozen=True)
class Table:
    """Numbers in words: every row has a cell for each column."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As a table of GitHub's Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join([f"**{self.caption}**", "", *("| " + " | ".join(map(str, line)) + " |" for line in lines)])


@dataclass(frozen=True)
class Section:
    """One experiment of RESULTS.md.

    ``outcome`` is evidence's word for the criterion that the plan fixed before the run, ``verdict`` the sentence that
    says it with numbers. ``remedies`` are what was tried where the outcome is "no difference" or "hurts", each with its
    numbers. ``figures`` are (file name, caption). ``seconds`` are wall time and time of the processor over all pieces.
    """

    experiment: str
    profile: str
    title: str
    question: str
    criterion: str
    outcome: str
    verdict: str
    tables: Sequence[Table]
    figures: Sequence[tuple[str, str]]
    notes: Sequence[str]
    remedies: Sequence[str]
    seconds: tuple[float, float]
    command: str
    hardware: str
    versions: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write ``results/<profile>/<experiment>.json``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Section:
        """A section as `save` wrote it."""
        said: dict[str, Any] = json.loads(path.read_text())
        said["tables"] = [Table(**table) for table in said["tables"]]
        return cls(**{**said, "figures": [tuple(one) for one in said["figures"]], "seconds": tuple(said["seconds"])})

    def markdown(self, number: int) -> str:
        """The section's text; figures are linked as lying in ``results/<profile>/``."""
        wall, processor = (value / 60 for value in self.seconds)
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        parts = [
            f"## {number}. {self.title}",
            f"*{self.question}*",
            f"Criterion, fixed before the run: {self.criterion}",
            f"**{WORDS[self.outcome].capitalize()}.** {self.verdict}",
            *(table.markdown() for table in self.tables),
            *(f"![{says}](results/{self.profile}/{name})\n\n{says}" for name, says in self.figures),
            *self.notes,
            *(["Remedies tried:\n\n" + "\n".join(f"- {one}" for one in self.remedies)] if self.remedies else []),
            f"`{self.command}` · {wall:.1f} minutes ({processor:.1f} of the processor) · {self.hardware} · {versions}",
        ]
        return "\n\n".join(parts)


def percent(mean: float, interval: Sequence[float] | None = None, *, signed: bool = False) -> str:
    """A fraction as points with its interval.

    >>> percent(0.5, (0.4, 0.6)), percent(0.031, signed=True)
    ('50.0 [40.0, 60.0]', '+3.1')
    """
    sign = "+" if signed else ""
    ends = "" if interval is None else f" [{100 * interval[0]:{sign}.1f}, {100 * interval[1]:{sign}.1f}]"
    return f"{100 * mean:{sign}.1f}{ends}"


COLUMNS = (
    "student", "trained with", "test accuracy, %", "commentary minus this", "by the rule", "mean while training",
    "steps to target",
)  # fmt: skip


def comparison(caption: str, evidence: Evidence) -> Table:
    """The arms of an evaluation: accuracy with its interval, the paired difference, evidence's word, learning speed."""
    roles = {arm["name"]: arm["role"] for arm in evidence.protocol.parameters["arms"]}
    rows = []
    for one in evidence.measurements:
        difference = one.difference_ci95
        reached = "" if one.reached_target in {None, 1.0} else f" ({one.reached_target:.0%} of runs)"
        rows.append(
            [
                one.student,
                f"**{one.control}**" if difference is None else one.control + _mark(roles[one.control]),
                percent(one.accuracy_mean, one.accuracy_ci95),
                "" if difference is None else percent(one.difference_mean or 0.0, difference, signed=True),
                "" if difference is None else WORDS[judge(difference)],
                percent(one.curve_area_mean or 0.0),
                "–" if one.steps_to_target is None else f"{one.steps_to_target:.0f}{reached}",
            ]
        )
    first = evidence.measurements[0]
    trials = evidence.protocol.learning_runs
    says = f"{caption}; {trials} learning runs × splits, {first.runs} runs an arm, {evidence.protocol.steps} steps"
    return Table(says, COLUMNS, rows)


def _mark(role: str) -> str:
    return " (competitor)" if role == "competitor" else ""


def decided(evidence: Evidence, student: str, against: Sequence[str], *, speed: bool = False) -> tuple[str, str]:
    """The outcome for one student against these arms, and the sentence that says it with numbers.

    "helps" where the commentary helps against every one of them, "hurts" where it hurts against one, "no_difference"
    otherwise: each by evidence's rule for a pair. With ``speed`` of the mean accuracy while training (the area under
    the learning curve), otherwise of the final accuracy.
    """
    found = {one.control: one for one in evidence.measurements if one.student == student}
    ours = found["commentary"]
    said, outcomes = [], set()
    for name in against:
        other = found[name]
        difference, mean = other.difference_ci95, other.difference_mean
        if speed:
            difference = other.curve_area_difference_ci95
            mean = (ours.curve_area_mean or 0.0) - (other.curve_area_mean or 0.0)
        assert difference is not None, "the commentary is not an arm to be compared with"
        outcomes.add(judge(difference))
        said.append(f"{name} {percent(mean or 0.0, difference, signed=True)}")
    outcome = "hurts" if "hurts" in outcomes else "helps" if outcomes == {"helps"} else "no_difference"
    what = "mean test accuracy while training" if speed else "test accuracy"
    return outcome, f"Commentary minus control in {what}, student {student}, points: {', '.join(said)}."
