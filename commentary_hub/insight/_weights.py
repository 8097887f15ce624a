"""Weights as pictures: how they are spread, and how they change over training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from commentary_hub.errors import ShapeError
from commentary_hub.insight._canvas import ACCENT, INK, PAPER, SOFT, TINT, draw, plain_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Weights = NDArray[np.float64]
_BINS = 50
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def histogram(weights: Weights, *, of: str) -> tuple[bytes, str]:
    """How the weights [N] are spread, their median marked, with its alternative text.

    ``of`` says whose weights they are, for the title: ``"1,097 examples"``. The axis runs from 0 to 1, or to the
    largest weight where that is above 1. Raises `ShapeError` unless ``weights`` is one finite number per example.
    """
    values = _finite(weights, 1)
    top = max(1.0, float(values.max()))
    median = float(np.median(values))
    low, high = (float(value) for value in np.quantile(values, [0.25, 0.75]))

    def paint(figure: Figure) -> None:
        axes = plain_axes(figure, f"Weights of {of}")
        counts = axes.hist(values, bins=_BINS, range=(0.0, top), color=ACCENT, rwidth=0.88)[0]
        axes.set(xlabel="weight", ylabel="examples", xlim=(0.0, top), ylim=(0.0, 1.15 * float(np.max(counts))))
        axes.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
        axes.axvline(median, color=INK, linewidth=1.4, linestyle=(0, (4, 2)))
        right = median < 0.7 * top
        axes.annotate(
            f"median {median:.2f}",
            (median, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(6 if right else -6, -4),
            textcoords="offset points",
            ha="left" if right else "right",
            va="top",
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5},
        )

    alt = (
        f"Histogram of the weights of {of}: the median is {median:.2f}, and half of them lie between {low:.2f} and "
        f"{high:.2f}."
    )
    return draw(paint, height=3.2), alt


def curves(weights: Weights, *, of: str, steps: int | None = None) -> tuple[bytes, str]:
    """Bands of quantiles of the weights [N, S] over S equal stages of training, with their alternative text.

    ``steps`` is T, the length of the student's training, for the axis; without it the axis is the share of training.
    Raises `ShapeError` for other shapes, or for numbers that are not finite.
    """
    values = _finite(weights, 2)
    stages = values.shape[1]
    quantiles = np.quantile(values, _QUANTILES, axis=0)
    edges = np.linspace(0.0, 1.0 if steps is None else float(steps), stages + 1)

    def paint(figure: Figure) -> None:
        axes = plain_axes(figure, f"Weights over training, {of}")
        for low, high, shade in ((0, 4, 0.35), (1, 3, 0.85)):
            axes.stairs(quantiles[high], edges, baseline=quantiles[low], fill=True, color=TINT, alpha=shade, lw=0)
        axes.stairs(quantiles[2], edges, baseline=None, color=ACCENT, linewidth=2.2)
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0.0, max(1.0, 1.05 * float(quantiles.max()))), ylabel="weight")
        axes.set_xlabel("share of training" if steps is None else "training step")
        handles = [
            axes.fill_between([], [], color=TINT, alpha=0.35, linewidth=0, label="middle 90 %"),
            axes.fill_between([], [], color=TINT, alpha=0.95, linewidth=0, label="middle 50 %"),
            *axes.plot([], [], color=ACCENT, linewidth=2.2, label="median"),
        ]
        figure.legend(handles=handles[::-1], loc="outside lower left", ncols=3, labelcolor=SOFT)

    first, last = quantiles[2][0], quantiles[2][-1]
    widths = quantiles[3] - quantiles[1]
    alt = (
        f"The weights of {of} over {stages} stages of training: the median goes from {first:.2f} to {last:.2f}, the "
        f"width of the middle half from {widths[0]:.2f} to {widths[-1]:.2f}."
    )
    return draw(paint, height=3.4), alt


def _finite(weights: Weights, dimensions: int) -> Weights:
    values = np.asarray(weights, dtype=np.float64)
    if values.ndim != dimensions or values.size == 0 or not np.isfinite(values).all():
        wanted = "[examples]" if dimensions == 1 else "[examples, stages]"
        raise ShapeError(
            f"weights have shape {list(values.shape)}, expected {wanted} of finite numbers, at least one",
            tensor="weights",
            shape=values.shape,
        )
    return values
