"""Masks laid over pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from commentary_hub.commentaries import AttentionMask
from commentary_hub.insight._canvas import ACCENT, PAPER, WIDTH, draw
from commentary_hub.insight._thumbnails import COLUMNS, displayed, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 12
_CELL = WIDTH / COLUMNS
_HEADER = 0.45


@torch.no_grad()
def masked(attention: AttentionMask, pictures: Tensor) -> tuple[bytes, str]:
    """Twelve pictures at most, each above itself as a student sees it, with the alternative text.

    A ring marks where the mask falls to half of its height above the background, a cross its centre where it has one.
    Raises `ShapeError` for pictures that the mask cannot take.
    """
    chosen = pictures[:SHOWN]
    masks = attention.mask(chosen)
    centres = attention.centre(chosen).cpu().numpy() if attention.form == "centre" else None
    before = displayed(chosen)
    after = before * masks.clamp(0, 1).permute(0, 2, 3, 1).cpu().double().numpy()
    halves = masks[:, 0].cpu().double().numpy()
    level = attention.background + 0.5
    rows = -(-len(chosen) // COLUMNS)
    height, width = before.shape[1:3]
    ratio = min(2.0, max(0.5, height / width))

    def paint(figure: Figure) -> None:
        figure.suptitle("Pictures, and what a student sees of them", x=0.01, ha="left", fontsize=11, fontweight="bold")
        grid = figure.subplots(2 * rows, COLUMNS, squeeze=False)
        for number in range(rows * COLUMNS):
            row, column = 2 * (number // COLUMNS), number % COLUMNS
            above, below = grid[row, column], grid[row + 1, column]
            if number >= len(before):
                above.set_visible(False)
                below.set_visible(False)
                continue
            show(above, before[number])
            show(below, after[number])
            if halves[number].min() < level < halves[number].max():
                _ring(above, halves[number], level)
            if centres is not None:
                above.plot(centres[number, 1], centres[number, 0], "+", color=PAPER, ms=11, mew=4.0)
                above.plot(centres[number, 1], centres[number, 0], "+", color=ACCENT, ms=10, mew=2.0)

    share = float(masks.clamp(0, 1).mean())
    alt = (
        f"{len(chosen)} pictures, each above itself under its mask: on average {share:.0%} of a picture is let through."
    )
    return draw(paint, height=_HEADER + 2 * rows * 0.98 * _CELL * ratio), alt


def _ring(axes: Axes, mask: np.ndarray, level: float) -> None:
    for colour, line in ((PAPER, 3.0), (ACCENT, 1.4)):
        axes.contour(mask, levels=[level], colors=[colour], linewidths=line)
