"""Learning curves of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from commentary_hub.evidence import COMMENTARY
from commentary_hub.manifest import Evidence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GREYS = ("#1c1b19", "#5b5852", "#8b867d", "#b3aea4", "#dedad1")
_DASHES = ("-", "--", ":", "-.")


def learning_curves(evidence: Evidence, student: str, arms: Sequence[str]) -> Figure:
    """Mean test accuracy over training steps of one student in the first trial, a line for each of ``arms``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 3.4), layout="constrained")
    axes = figure.add_subplot()
    found = {
        one["arm"]: one for one in evidence.protocol.parameters["trials"][0]["results"] if one["student"] == student
    }
    for number, name in enumerate(arms):
        ours = name == COMMENTARY
        style = (
            {"color": "#2f4a8c", "linewidth": 2.4}
            if ours
            else {"color": _GREYS[number % len(_GREYS)], "linewidth": 1.4}
        )
        line = "-" if ours else _DASHES[number % len(_DASHES)]
        axes.plot(found[name]["points"], [100 * v for v in found[name]["mean_curve"]], line, label=name, **style)
    axes.set(xlabel="training step", ylabel="test accuracy, %", xlim=(0, None), ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dedad1", linewidth=0.8)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
