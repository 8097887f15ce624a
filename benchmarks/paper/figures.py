"""How the experiments draw: plain, readable at the width of a page, without any state of their own."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from commentary_hub.manifest import Evidence

INK, ACCENT, GREY, RULE = "#1c1b19", "#2f4a8c", "#8b867d", "#dedad1"
CYCLE = ("#2f4a8c", "#b5532a", "#3d7a56", "#8b867d", "#7a4a86", "#a3892b")


def panels(columns: int, *, width: float = 7.5, height: float = 3.0) -> tuple[Figure, Sequence[Axes]]:
    """A figure with panels beside each other."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(RULE)
        one.tick_params(colors=INK, labelsize=8, color=RULE)
    return figure, list(axes)


def draw_arms(axes: Axes, evidence: Evidence, student: str) -> None:
    """Accuracies of all arms with their intervals, the commentary on top."""
    arms = [one for one in evidence.measurements if one.student == student][::-1]
    for place, one in enumerate(arms):
        low, high = (100 * end for end in one.accuracy_ci95)
        colour = ACCENT if one.control == "commentary" else GREY
        axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot(100 * one.accuracy_mean, place, "o", color=colour, markersize=5)
    axes.set_yticks(range(len(arms)), [one.control.replace("_", " ") for one in arms])
    axes.set_xlabel(f"test accuracy of new students ({student}), %", fontsize=8)
    axes.grid(axis="x", color=RULE, linewidth=0.6)


def draw_curves(axes: Axes, evidence: Evidence, student: str, arms: Sequence[str]) -> None:
    """Mean test accuracy while the first trial's students train, a line for each of ``arms``, the commentary on top."""
    results = evidence.protocol.parameters["trials"][0]["results"]
    found = {one["arm"]: one for one in results if one["student"] == student}
    dashes = iter(("-", "--", ":", "-.", (0, (1, 3)), (0, (6, 3))))
    for name in arms:
        style = (
            {"color": ACCENT, "linewidth": 2.2, "zorder": 3}
            if name == "commentary"
            else {"color": GREY, "linewidth": 1.3, "linestyle": next(dashes)}
        )
        curve = [100 * value for value in found[name]["mean_curve"]]
        axes.plot(found[name]["points"], curve, label=name.replace("_", " "), **style)
    axes.set_xlabel("training step", fontsize=8)
    axes.set_ylabel(f"test accuracy of new students ({student}), %", fontsize=8)
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
