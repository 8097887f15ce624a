"""What an example is to be learned as, in words."""

from __future__ import annotations

from torch import Tensor

from commentary_hub.data import IGNORED

_MOST = 8
"""Of so many numbers or classes each is said."""


def label_words(target: Tensor, classes: tuple[str, ...] | None) -> str:
    """One target of `Examples`: its class, by name where it has one, its number, or several of these.

    Of a row of zeros and ones the places of the ones are said: the labels that an example has at once.

    >>> import torch
    >>> label_words(torch.tensor(1), ("cat", "dog")), label_words(torch.tensor(3), None)
    ('dog', '3')
    >>> label_words(torch.tensor(2.87), None), label_words(torch.tensor([0.25, 0.75]), None)
    ('2.87', '0.25, 0.75')
    >>> label_words(torch.tensor([1.0, 0.0, 1.0]), None), label_words(torch.zeros(3), None)
    ('0, 2', 'none')
    """
    if target.dim() == 0:
        return _words(target.item(), classes)
    if not target.is_floating_point():
        parts = target[target != IGNORED].tolist()
    elif bool(((target == 0) | (target == 1)).all()):
        parts = target.nonzero().flatten().tolist()
    else:
        parts = target.tolist()
    words = [_words(part, classes) for part in parts[:_MOST]]
    return ", ".join([*words, "…"] if len(parts) > _MOST else words) or "none"


def _words(part: float, classes: tuple[str, ...] | None) -> str:
    if not isinstance(part, int):
        return f"{part:.4g}"
    return classes[part] if classes is not None and 0 <= part < len(classes) else str(part)
