"""Evidence as a picture: how good students get under each arm, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from commentary_hub.insight._canvas import ACCENT, INK, NEUTRALS, RULE, SOFT, draw, short
from commentary_hub.manifest import Evidence, Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _HEAD = 0.3, 0.95
_COMMENTARY = "commentary"


def comparison(evidence: Evidence) -> tuple[bytes, str]:
    """Accuracy of new students under the commentary and each control, with 95 % intervals, and its alternative text.

    One panel per student; the commentary's interval goes on as a band, so that the eye can compare.
    """
    students = tuple(dict.fromkeys(one.student for one in evidence.measurements))
    rows = {name: _ordered(evidence, name) for name in students}
    longest = max(len(found) for found in rows.values())

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(students), 1, squeeze=False)[:, 0]
        for axes, name in zip(panels, students, strict=True):
            _panel(axes, name, rows[name])

    best = rows[students[0]][0]
    others = ", ".join(f"{one.control} {one.accuracy_mean:.1%}" for one in rows[students[0]][1:])
    alt = (
        f"Test accuracy of new students with 95 % intervals, for {students[0]}: commentary {best.accuracy_mean:.1%}, "
        f"{others}."
    )
    return draw(paint, height=len(students) * (_HEAD + _ROW * longest)), alt if len(alt) < 250 else _cut(alt)


def _ordered(evidence: Evidence, student: str) -> list[Measurement]:
    """The commentary first, then the controls from the best on."""
    own = [one for one in evidence.measurements if one.student == student]
    return sorted(own, key=lambda one: (one.control != _COMMENTARY, -one.accuracy_mean))


def _panel(axes: Axes, student: str, rows: list[Measurement]) -> None:
    axes.set_title(f"Accuracy of new students: {short(student, 40)}", pad=10)
    low, high = rows[0].accuracy_ci95
    axes.axvspan(low, high, color=RULE, alpha=0.45, lw=0)
    for place, one in enumerate(rows):
        own = one.control == _COMMENTARY
        colour = ACCENT if own else NEUTRALS[0]
        axes.plot(one.accuracy_ci95, (place, place), color=colour, linewidth=2.4, solid_capstyle="round")
        axes.plot([one.accuracy_mean], [place], "o", color=colour, markersize=6)
        axes.annotate(
            f"{one.accuracy_mean:.1%}", (1.01, place), xycoords=("axes fraction", "data"), va="center", color=INK,
            fontsize=9,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [short(one.control, 22) for one in rows], color=SOFT)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.tick_params(length=0, pad=6)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)


def _cut(text: str) -> str:
    return text[:244].rpartition(", ")[0] + "."
