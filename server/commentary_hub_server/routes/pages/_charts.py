"""Charts as SVG: pure functions from numbers to markup, readable without script, coloured by the style sheet.

Every chart has a title for screen readers; classes, not colours, so that light and dark are the style sheet's matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

BINS = 40
MAX_CLASSES = 40


@dataclass(frozen=True, slots=True)
class Interval:
    """One line of a leaderboard: fractions of accuracy."""

    label: str
    mean: float
    low: float
    high: float
    outcome: str | None = None


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
    """Weights in [0, 1] as bars, those below ``threshold`` set apart."""
    counts = bin_counts(values)
    top = max(counts, default=0) or 1
    width, height, base = 640, 200, 176
    step = width / len(counts)
    below = sum(value < threshold for value in values)
    bars = "".join(
        f'<rect class="{"bar low" if (at + 0.5) / len(counts) < threshold else "bar"}" x="{at * step + 1:.1f}" '
        f'y="{base - 160 * count / top:.1f}" width="{step - 2:.1f}" height="{160 * count / top:.1f}">'
        f"<title>{at / len(counts):.3f} to {(at + 1) / len(counts):.3f}: {count}</title></rect>"
        for at, count in enumerate(counts)
    )
    ticks = "".join(_text(width * at / 4, 194, f"{at / 4:g}", _anchor(at, 4)) for at in range(5))
    line = f'<line class="mark" x1="{threshold * width:.1f}" x2="{threshold * width:.1f}" y1="8" y2="{base}"/>'
    title = f"Histogram of {len(values)} weights; {below} lie below {threshold:.2f}, {len(values) - below} above"
    axis = f'<line class="axis" x1="0" x2="{width}" y1="{base}" y2="{base}"/>'
    return _svg(width, height, title, bars + axis + line + ticks, "histogram")


def curriculum(curves: Sequence[tuple[str, Sequence[float]]]) -> Markup:
    """Values in [0, 1] over stages of training, one step line per named curve."""
    width, height, left, base = 640, 220, 40, 184
    parts = [
        f'<line class="grid" x1="{left}" x2="{width}" y1="{base - 160 * at / 4:.0f}" y2="{base - 160 * at / 4:.0f}"/>'
        + _text(left - 8, base - 160 * at / 4 + 4, f"{at / 4:g}", "end")
        for at in range(5)
    ]
    for number, (label, values) in enumerate(curves):
        span = (width - left) / max(1, len(values))
        points = " ".join(
            f"{left + (at + side) * span:.1f},{base - 160 * value:.1f}"
            for at, value in enumerate(values)
            for side in (0, 1)
        )
        parts.append(
            f'<polyline class="curve c{number % 4}" points="{points}"><title>{escape(label)}</title></polyline>'
        )
    parts += [_text(left, 206, "start of training", "start"), _text(width, 206, "end", "end")]
    return _svg(width, height, "Weights over training: " + ", ".join(label for label, _ in curves), "".join(parts), "")


def heat_map(matrix: Sequence[Sequence[float]], classes: Sequence[str]) -> Markup:
    """A matrix of values in [0, 1] with class names; at most 40 classes are drawn."""
    count = min(len(matrix), MAX_CLASSES)
    side, left = max(14, min(44, 560 // max(1, count))), 96
    cells = []
    for row, values in enumerate(matrix[:count]):
        cells.append(_text(left - 8, (row + 0.65) * side, _short(classes[row]), "end"))
        for at, value in enumerate(values[:count]):
            label = f"{classes[row]} with {classes[at]}: {value:.3f}"
            cells.append(
                f'<rect class="cell" x="{left + at * side}" y="{row * side}" width="{side - 1}" height="{side - 1}" '
                f'fill-opacity="{min(1.0, max(0.0, value)):.3f}"><title>{escape(label)}</title></rect>'
            )
    for at in range(count):
        x, y = left + (at + 0.6) * side, count * side + 12
        cells.append(f'<text x="{x:.0f}" y="{y}" text-anchor="end" transform="rotate(-45 {x:.0f} {y})">'
                     f"{escape(_short(classes[at]))}</text>")  # fmt: skip
    return _svg(left + count * side, count * side + 80, f"Blend ratios between {count} classes", "".join(cells), "heat")


def intervals(lines: Sequence[Interval], *, name: str) -> Markup:
    """Means with their 95 % intervals on one axis, zero marked."""
    if not lines:
        return Markup("")
    low = min(0.0, *(line.low for line in lines))
    high = max(0.0, *(line.high for line in lines))
    span = (high - low) or 1.0
    width, row, left, right = 420, 46, 8, 64

    def x(value: float) -> float:
        return left + (value - low) / span * (width - left - right)

    zero = f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="4" y2="{len(lines) * row}"/>'
    parts = [zero]
    for at, line in enumerate(lines):
        y = at * row + 32
        parts.append(
            _text(0, y - 14, _short(line.label, 40), "start")
            + f'<g class="interval {escape(line.outcome or "unknown")}">'
            f'<line x1="{x(line.low):.1f}" x2="{x(line.high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle cx="{x(line.mean):.1f}" cy="{y}" r="5"/></g>' + _text(width, y + 4, points(line.mean), "end")
        )
    said = "; ".join(f"{line.label} {points(line.mean)}" for line in lines)
    return _svg(width, len(lines) * row + 4, f"{name}: {said}", "".join(parts), "leaderboard")


def spark(mean: float, low: float, high: float, outcome: str | None) -> Markup:
    """One small interval on a fixed axis of −25 to +25 points, for lists; the number stands beside it."""

    def x(value: float) -> float:
        return 60 + 240 * max(-0.25, min(0.25, value))

    body = (
        f'<line class="zero" x1="60" x2="60" y1="2" y2="14"/><g class="interval {escape(outcome or "unknown")}">'
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="8" y2="8"/><circle cx="{x(mean):.1f}" cy="8" r="4"/></g>'
    )
    return Markup(f'<svg class="spark" viewBox="0 0 120 16" aria-hidden="true">{body}</svg>')  # noqa: S704 - numbers and escaped text


def points(fraction: float) -> str:
    """A difference of accuracy in percentage points, signed.

    >>> points(0.0421), points(-0.5)
    ('+4.2', '−50.0')
    """
    text = f"{fraction * 100:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def _svg(width: float, height: float, title: str, body: str, extra: str) -> Markup:
    # Everything a stranger wrote has gone through escape() by now.
    return Markup(  # noqa: S704 - composed of numbers and escaped text
        f'<svg class="chart {extra}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{body}</svg>"
    )


def _text(x: float, y: float, label: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(label)}</text>'


def _anchor(at: int, last: int) -> str:
    return "start" if at == 0 else "end" if at == last else "middle"


def _short(label: str, limit: int = 14) -> str:
    return label if len(label) <= limit else label[: limit - 1] + "…"
