r"""TeX to MathML, which browsers draw by themselves: no script, no fonts, no other host."""

from __future__ import annotations

from html import escape
from xml.etree import ElementTree as ET

from latex2mathml.converter import convert

MAX_CHARACTERS = 1000
TAGS = frozenset(
    {
        "math", "mfrac", "mi", "mn", "mo", "mover", "mpadded", "mphantom", "mroot", "mrow", "mspace", "msqrt", "mstyle",
        "msub", "msubsup", "msup", "mtable", "mtd", "mtext", "mtr", "munder", "munderover",
    }
)  # fmt: skip
ATTRIBUTES = frozenset(
    {"display", "stretchy", "mathvariant", "displaystyle", "linethickness", "movablelimits", "fence", "form", "width"}
)
_NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"


def mathml(source: str, *, display: bool) -> str:
    r"""A formula as MathML of allowed elements only; as its TeX source where the converter cannot read it.

    >>> mathml(r"x^2", display=False)
    '<math display="inline"><mrow><msup><mi>x</mi><mn>2</mn></msup></mrow></math>'
    >>> mathml(r"\frac{", display=False)
    '<code class="math">\\frac{</code>'
    """
    try:
        if len(source) > MAX_CHARACTERS:
            raise ValueError(len(source))
        # The converter copies text as it stands: no bracket of markup may reach it.
        text = source.replace("<", r"\lt ").replace(">", r"\gt ")
        return _rebuilt(ET.fromstring(convert(text, display="block" if display else "inline")))  # noqa: S314 - the converter's own output, without declarations
    except Exception:  # noqa: BLE001 - a converter of strangers' text: whatever is wrong with a formula, the card shows its source
        return f'<code class="math">{escape(source)}</code>'


def _rebuilt(element: ET.Element) -> str:
    """The element written anew: allowed names and attributes, everything else is its text."""
    name = element.tag.removeprefix(_NAMESPACE)
    inner = escape(element.text or "") + "".join(_rebuilt(child) + escape(child.tail or "") for child in element)
    if name not in TAGS:
        return inner
    kept = "".join(f' {key}="{escape(value)}"' for key, value in element.attrib.items() if key in ATTRIBUTES)
    return f"<{name}{kept}>{inner}</{name}>"
