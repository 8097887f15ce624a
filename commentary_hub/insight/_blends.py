"""Blends as a picture: the ratio for every pair of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from commentary_hub.errors import ShapeError
from commentary_hub.insight._canvas import INK, PAPER, SOFT, class_label, draw, shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NUMBERED = 12
"""Up to so many classes each cell says its ratio."""
_NAMED = 25


def heat_map(ratios: NDArray[np.float64], classes: tuple[str, ...] | None) -> tuple[bytes, str]:
    """λ [C, C], row the example's class and column the partner's, with its alternative text.

    The shades run from the smallest to the largest λ (at least .05 apart, so that equal ratios look equal). Raises
    `ShapeError` unless there is one finite number per pair.
    """
    count = len(ratios)
    if ratios.shape != (count, count) or count == 0 or not np.isfinite(ratios).all():
        raise ShapeError(
            f"ratios have shape {list(ratios.shape)}, expected [classes, classes] of finite numbers",
            tensor="ratios",
            shape=ratios.shape,
        )
    names = [class_label(classes, number) for number in range(count)]
    low, high = float(ratios.min()), float(ratios.max())
    middle, half = (low + high) / 2, max((high - low) / 2, 0.025)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_title("Share that an example keeps when it is blended", pad=10)
        image = axes.imshow(ratios, cmap=shades(), vmin=middle - half, vmax=middle + half)
        _label(axes, names)
        if count <= NUMBERED:
            for (row, column), ratio in np.ndenumerate(ratios):
                colour = PAPER if ratio > middle + 0.2 * half else INK
                axes.text(column, row, f"{ratio:.2f}".lstrip("0"), ha="center", va="center", color=colour, fontsize=9)
        bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=24, format=lambda value, _: f"{value:.2f}")
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, colors=SOFT)

    own, others = float(np.diag(ratios).mean()), ratios[~np.eye(count, dtype=bool)]
    same = f"{own:.2f} within a class"
    alt = f"Heat map of the blending ratios of {count} classes, from {low:.2f} to {high:.2f}: on average {same}"
    alt += f" and {float(others.mean()):.2f} between classes." if len(others) else "."
    return draw(paint, height=5.4), alt


def _label(axes: Axes, names: list[str]) -> None:
    every = next(step for step in (1, 5, 10, 50, 100, len(names)) if len(names) <= _NAMED * step)
    places = range(0, len(names), every)
    shown = [names[place] for place in places]
    size = 10 if len(names) <= NUMBERED else 7
    tall = max(map(len, shown)) > 3
    axes.set_xticks(list(places), shown, rotation=90 if tall else 0, fontsize=size)
    axes.set_yticks(list(places), shown, fontsize=size)
    axes.set(xlabel="class of the partner", ylabel="class of the example")
    axes.tick_params(length=0, pad=4)
    for spine in axes.spines.values():
        spine.set_visible(False)
