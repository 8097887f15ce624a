"""The one visual language of all pictures: white paper, dark ink, one accent, and the only place that knows matplotlib.

Pictures are 1,200 pixels wide and are meant to be read at 600: a type size of 10 points stands 14 pixels high there.
Nothing here touches matplotlib's global state for longer than one picture is drawn, and pyplot is never loaded.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from commentary_hub.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

INK, SOFT, RULE, PAPER = "#1c1b19", "#5b5852", "#dedad1", "#ffffff"
ACCENT, TINT = "#2f4a8c", "#a9b6da"
NEUTRALS = ("#5b5852", "#8b867d", "#b3aea4")
"""Greys, for what stands beside the accent."""

WIDTH = 6.0
"""Inches."""
_DPI = 200
_STYLE: Any = {  # Any: the stubs spell out every key as a literal
    "axes.axisbelow": True,
    "axes.edgecolor": RULE,
    "axes.facecolor": PAPER,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 10,
    "axes.linewidth": 1.0,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.facecolor": PAPER,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same picture everywhere
    "font.size": 10,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "text.color": INK,
    "text.parse_math": False,  # class names are words, not formulas
    "text.usetex": False,
    "xtick.color": RULE,
    "xtick.labelcolor": SOFT,
    "xtick.labelsize": 10,
    "ytick.color": RULE,
    "ytick.labelcolor": SOFT,
    "ytick.labelsize": 10,
}


def draw(paint: Callable[[Figure], None], *, height: float, width: float = WIDTH) -> bytes:
    """A picture as PNG bytes: ``paint`` fills an empty figure of ``width`` × ``height`` inches.

    Equal figures give equal bytes under one version of matplotlib. Raises `MissingExtra` without matplotlib.

    >>> draw(lambda figure: None, height=1.0)[1:4]
    b'PNG'
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an optional part
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra("pictures need matplotlib: pip install 'commentary-hub[demo]'", name="matplotlib") from error
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        paint(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def plain_axes(figure: Figure, title: str) -> Axes:
    """The only axes of a figure, titled at the left, with light lines across."""
    axes = figure.add_subplot()
    axes.set_title(title, pad=10)
    axes.grid(axis="y")
    axes.tick_params(length=0, pad=6)
    axes.spines["left"].set_visible(False)
    return axes


def shades() -> Colormap:
    """Paper to accent, for maps of values from 0 to 1."""
    from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415 - an optional part

    return LinearSegmentedColormap.from_list("paper-to-accent", [PAPER, TINT, ACCENT])


def short(label: str, limit: int) -> str:
    """A label on one line of at most ``limit`` letters.

    >>> short("a very long class name", 12)
    'a very long…'
    """
    line = " ".join(label.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def class_label(classes: tuple[str, ...] | None, number: int, *, limit: int = 14) -> str:
    """The name of a class as pictures show it: its number where it has no name, or none that the typeface can write.

    >>> class_label(("cat", "dog"), 1), class_label(None, 3), class_label(("猫",), 0)
    ('dog', '3', '0')
    """
    if classes is None or not 0 <= number < len(classes):
        return str(number)
    return short(classes[number], limit) if classes[number].strip() and writable(classes[number]) else str(number)


def writable(text: str) -> bool:
    """Whether the pictures' typeface has a sign for every letter of ``text``."""
    from matplotlib import font_manager  # noqa: PLC0415 - an optional part

    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return all(letter.isspace() or font.get_char_index(ord(letter)) for letter in text)
