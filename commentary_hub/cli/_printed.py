"""What strangers wrote, made fit for a terminal."""

from __future__ import annotations

import unicodedata

from rich.text import Text


def printable(text: str) -> str:
    r"""``text`` without control and format characters, which could move the cursor, set a title or hide words.

    Line breaks and tabs become spaces.

    >>> printable("a\x1b[2J\nb\u202ec")
    'a[2J bc'
    """
    spaced = " ".join(text.split())
    return "".join(letter for letter in spaced if unicodedata.category(letter) not in {"Cc", "Cf", "Co", "Cs"})


def cell(text: str, style: str = "") -> Text:
    """`printable` as a table's cell: brackets in it are no markup."""
    return Text(printable(text), style=style)
