"""Charts as inline SVG without any text in it: labels are HTML beside them, so that they keep their size on a phone.

Pure functions from numbers to markup. Classes, not colours: light and dark are the style sheet's matter. Every
drawing stretches to the width it is given; strokes do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

BINS = 50
MAX_CLASSES = 40


@dataclass(frozen=True, slots=True)
class Axis:
    """A common scale for intervals of accuracy, in fractions; always holds zero."""

    low: float
    high: float

    @classmethod
    def over(cls, *values: float | None) -> Axis:
        """The smallest axis on round ticks that holds all values and zero.

        >>> Axis.over(-0.012, 0.043)
        Axis(low=-0.02, high=0.06)
        """
        known = [value for value in values if value is not None]
        low, high = min([0.0, *known]), max([0.0, *known])
        step = _step(max(high - low, 0.01) / 4)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        return cls(round(first * step, 6), round(max(last, first + 1) * step, 6))

    def ticks(self) -> list[float]:
        """Round values from low to high, three to nine of them.

        >>> Axis(-0.02, 0.06).ticks()
        [-0.02, 0.0, 0.02, 0.04, 0.06]
        """
        step = _step((self.high - self.low) / 4)
        first, last = round(self.low / step), round(self.high / step)
        return [round(at * step, 6) for at in range(first, last + 1)]

    def x(self, value: float) -> float:
        """Where a value lies, from 0 to 100; beyond the ends it stays at the end."""
        return max(0.0, min(100.0, (value - self.low) / ((self.high - self.low) or 1.0) * 100))


def interval(
    mean: float | None, low: float | None, high: float | None, outcome: str | None, axis: Axis, *, ticks: bool = True
) -> Markup:
    """A mean with its 95 % interval on a common axis, zero marked; the numbers stand beside it in words."""
    marks = "".join(_line("tick", axis.x(tick)) for tick in axis.ticks()) if ticks else ""
    body = marks + _line("zero", axis.x(0.0))
    if mean is not None and low is not None and high is not None:
        body += (
            f'<g class="interval {escape(outcome or "unknown")}">'
            f'<path class="span" d="M{axis.x(low):.2f} 50H{axis.x(high):.2f}"/>'
            f'<path class="dot" d="M{axis.x(mean):.2f} 50h.01"/></g>'
        )
    return _svg("range", body)


def axis_labels(axis: Axis) -> Markup:
    """The axis's ticks in percentage points, as a row of labels below a column of intervals."""
    labels = "".join(_tick(axis.x(tick), points(tick).removesuffix(".0")) for tick in axis.ticks())
    return Markup(f'<svg class="axis" aria-hidden="true">{labels}</svg>')  # noqa: S704 - composed of numbers


def bin_counts(values: Sequence[float], bins: int = BINS) -> list[int]:
    """How many of ``values`` (in [0, 1]) fall in each of ``bins`` equal parts; 1 belongs to the last.

    >>> bin_counts([0.0, 0.1, 0.9, 1.0], bins=2)
    [2, 2]
    """
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int(value * bins)))] += 1
    return counts


def histogram(values: Sequence[float], threshold: float) -> Markup:
    """Weights in [0, 1] as bars, those below ``threshold`` set apart, the threshold marked."""
    counts = bin_counts(values)
    top = max(counts, default=0) or 1
    step = 100 / len(counts)
    bars = "".join(
        f'<rect class="{"bar low" if (at + 0.5) / len(counts) < threshold else "bar"}" x="{at * step + 0.15:.2f}" '
        f'y="{100 - 96 * count / top:.2f}" width="{step - 0.3:.2f}" height="{96 * count / top:.2f}">'
        f"<title>{at / len(counts):.2f} to {(at + 1) / len(counts):.2f}: {count:,}</title></rect>"
        for at, count in enumerate(counts)
    )
    below = sum(value < threshold for value in values)
    said = f"Histogram of {len(values):,} weights: {below:,} below {threshold:.2f}, {len(values) - below:,} above"
    return _svg("histogram", bars + _line("mark", threshold * 100), said)


def bands(quartiles: Sequence[Sequence[float]]) -> Markup:
    """Median and middle half of values in [0, 1] at each stage of training, as steps."""
    span = 100 / max(1, len(quartiles))

    def steps(which: int) -> list[str]:
        return [
            f"{(at + side) * span:.2f},{100 - 100 * line[which]:.2f}"
            for at, line in enumerate(quartiles)
            for side in (0, 1)
        ]

    body = (
        "".join(f'<path class="tick" d="M0 {y}H100"/>' for y in (0, 25, 50, 75, 100))
        + f'<polygon class="band" points="{" ".join(steps(0) + steps(2)[::-1])}"/>'
        + f'<polyline class="curve" points="{" ".join(steps(1))}"/>'
    )
    first, last = quartiles[0][1], quartiles[-1][1]
    said = f"Weights over training: the median goes from {first:.2f} to {last:.2f}"
    return _svg("bands", body, said)


def heat_map(matrix: Sequence[Sequence[float]], names: Sequence[str]) -> Markup:
    """A square matrix as shades from its lowest to its highest value; at most 40 classes, names only in the titles."""
    count = min(len(matrix), MAX_CLASSES)
    shown = [values[:count] for values in matrix[:count]]
    low, high = min(map(min, shown)), max(map(max, shown))
    span = (high - low) or 1.0
    cells = "".join(
        f'<rect class="cell" x="{at}" y="{row}" width=".94" height=".94" '
        f'fill-opacity="{0.04 + 0.96 * (value - low) / span:.3f}">'
        f"<title>{escape(names[row])}, {escape(names[at])}: {value:.3f}</title></rect>"
        for row, values in enumerate(shown)
        for at, value in enumerate(values)
    )
    return _svg(
        "heat", cells, f"Map of {count} by {count} classes, from {low:.2f} to {high:.2f}", box=f"0 0 {count} {count}"
    )


def share(fraction: float) -> Markup:
    """A share of the whole as a bar; the number stands beside it."""
    width = 100 * max(0.0, min(1.0, fraction))
    return _svg(
        "share", f'<rect class="trough" width="100" height="100"/><rect class="bar" width="{width:.2f}" height="100"/>'
    )


def crop(href: str, at: int, columns: int, rows: int) -> Markup:
    """Tile ``at`` of a sheet of ``columns`` by ``rows`` equal square tiles; what it shows stands beside it."""
    x, y = at % columns, at // columns
    image = f'<image href="{escape(href)}" width="{columns}" height="{rows}" preserveAspectRatio="none"/>'
    return Markup(f'<svg class="tile" viewBox="{x} {y} 1 1" aria-hidden="true">{image}</svg>')  # noqa: S704 - escaped above


def points(fraction: float) -> str:
    """A difference of accuracy in percentage points, signed.

    >>> points(0.0421), points(-0.5), points(0.0)
    ('+4.2', '−50.0', '0')
    """
    text = f"{fraction * 100:+.1f}"
    return "0" if text in {"+0.0", "-0.0"} else text.replace("-", "−")


def _step(rough: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(round(power * factor, 9) for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))


def _line(name: str, x: float) -> str:
    return f'<path class="{name}" d="M{x:.2f} 0V100"/>'


def _tick(x: float, label: str) -> str:
    return f'<text x="{x:.2f}%" y="1em" text-anchor="{_anchor(x)}">{label}</text>'


def _anchor(x: float) -> str:
    return "start" if x < 2 else "end" if x > 98 else "middle"


def _svg(name: str, body: str, said: str = "", box: str = "0 0 100 100") -> Markup:
    # Everything a stranger wrote has gone through escape() by now.
    label = f'role="img" aria-label="{escape(said)}"' if said else 'aria-hidden="true"'
    return Markup(f'<svg class="chart {name}" viewBox="{box}" preserveAspectRatio="none" {label}>{body}</svg>')  # noqa: S704 - see above
