"""Text to numbers for small text models: hashed words or characters, so that there is no vocabulary to agree on."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

import torch
from torch import Tensor

_WORDS = re.compile(r"\w+|[^\w\s]")
PADDING = 0


def tokenise(texts: Iterable[str], *, length: int = 64, vocabulary: int = 4096) -> Tensor:
    """Token ids [N, length] int64 in 0 … vocabulary − 1; 0 is padding.

    Lower-cased words and single punctuation marks; id = 1 + CRC-32(UTF-8) mod (vocabulary − 1). Words beyond
    ``length`` are dropped, words that share an id are told apart by nothing but their company.

    >>> tokenise(["Stop! Stop."], length=5).tolist()
    [[3281, 1842, 3281, 3999, 0]]
    """
    rows = []
    for text in texts:
        words = _WORDS.findall(text.lower())[:length]
        ids = [1 + zlib.crc32(word.encode()) % (vocabulary - 1) for word in words]
        rows.append(ids + [PADDING] * (length - len(ids)))
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, length)


CHARACTERS = 97
"""How many ids `characters` gives: 0 is padding, 1 any other character, 2 … 96 the printable ones of ASCII in order."""


def characters(texts: Iterable[str], *, length: int = 128) -> Tensor:
    """Character ids [N, length] int64 in 0 … 96, for a ``CharLM`` with ``vocabulary=CHARACTERS``; 0 is padding.

    Characters beyond ``length`` are dropped; whoever wants them cuts the text first.

    >>> characters(["a b", "ü!~~"], length=4).tolist()
    [[67, 2, 68, 0], [1, 3, 96, 96]]
    """
    rows = []
    for text in texts:
        ids = [ord(one) - 30 if " " <= one <= "~" else 1 for one in text[:length]]
        rows.append(ids + [PADDING] * (length - len(ids)))
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, length)
