"""Mixtures as a picture: the share of every source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from commentary_hub.errors import InputError
from commentary_hub.insight._canvas import ACCENT, INK, SOFT, draw, short, writable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 20
"""So many of the largest shares have a bar; the others are one together."""


def shares(probabilities: Mapping[str, float]) -> tuple[bytes, str]:
    """Bars of the shares, the largest at the top, with their alternative text; raises `InputError` for none."""
    if not probabilities:
        raise InputError("there is no source to draw")
    ranked = sorted(probabilities.items(), key=lambda one: -one[1])
    first, rest = ranked[:SHOWN], ranked[SHOWN:]
    names = [short(name, 28) if writable(name) else f"source {number}" for number, (name, _) in enumerate(first, 1)]
    values = [share for _, share in first]
    if rest:
        names.append(f"{len(rest)} others")
        values.append(sum(share for _, share in rest))
    equal = 1 / len(probabilities)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_title("Share of each source", pad=10)
        axes.barh(range(len(values)), values, color=ACCENT, height=0.6)
        axes.axvline(equal, color=SOFT, linewidth=1.0, linestyle=":")
        for place, share in enumerate(values):
            axes.text(share + 0.01 * max(values), place, f"{share:.1%}", va="center", color=INK, fontsize=9)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.15 * max(*values, equal))
        axes.xaxis.set_visible(False)
        axes.tick_params(length=0, pad=6)
        axes.spines["bottom"].set_visible(False)

    (most, high), (least, low) = ranked[0], ranked[-1]
    alt = f"Bars of the shares of {len(ranked)} sources: the most is {high:.1%} for {short(most, 28)}"
    alt += f", the least {low:.1%} for {short(least, 28)}; a dotted line marks equal shares."
    return draw(paint, height=max(1.8, 0.9 + 0.34 * len(values))), alt
