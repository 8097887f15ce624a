"""Examples as thumbnails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from commentary_hub.errors import InputError, ShapeError
from commentary_hub.insight._canvas import RULE, WIDTH, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 6
_CELL = WIDTH / COLUMNS
_LINES = 0.36
_HEADER = 0.4


def thumbnails(pictures: Tensor, captions: Sequence[str], *, title: str) -> bytes:
    """A grid, six to a row, of pictures [N, C, H, W], each under its caption (one or two lines).

    Raises `ShapeError` unless there are pictures, and `InputError` unless each has a caption.
    """
    shown = displayed(pictures)
    if len(captions) != len(shown):
        raise InputError(f"there are {len(shown)} pictures and {len(captions)} captions: give one for each")
    rows = math.ceil(len(shown) / COLUMNS)
    ratio = min(2.0, max(0.5, shown.shape[1] / shown.shape[2]))

    def paint(figure: Figure) -> None:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        for axes, picture, caption in zip(grid, shown, captions, strict=False):
            show(axes, picture)
            for number, line in enumerate(reversed(caption.split("\n"))):
                place = {"xycoords": "axes fraction", "xytext": (0, 5 + 12 * number), "textcoords": "offset points"}
                axes.annotate(line, (0.5, 1.0), ha="center", va="baseline", fontsize=9, **place)

    return draw(paint, height=_HEADER + rows * (0.85 * _CELL * ratio + _LINES))


def displayed(pictures: Tensor) -> NDArray[np.float64]:
    """Pictures [N, C, H, W] as [N, H, W, 3] in [0, 1], in colour where C is 3, else as the grey mean of channels.

    Values outside [0, 1] (normalised inputs) are brought into it, all pictures alike. Raises `ShapeError` for
    anything that is not at least one picture.
    """
    if pictures.dim() != 4 or 0 in pictures.shape:
        raise ShapeError(
            f"pictures have shape {list(pictures.shape)}, expected [examples, channels, height, width]",
            tensor="inputs",
            shape=tuple(pictures.shape),
        )
    values = np.nan_to_num(pictures.detach().cpu().double().numpy())
    if values.shape[1] != 3:
        values = values.mean(axis=1, keepdims=True)
    low, high = float(values.min()), float(values.max())
    if low < 0.0 or high > 1.0:
        values = (values - low) / ((high - low) or 1.0)
    return np.broadcast_to(values, (len(values), 3, *values.shape[2:])).transpose(0, 2, 3, 1)


def show(axes: Axes, picture: NDArray[np.float64]) -> None:
    """One picture [H, W, 3] in a fine frame, every pixel as it is."""
    axes.imshow(picture, interpolation="nearest", vmin=0.0, vmax=1.0)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color=RULE, linewidth=0.8)
