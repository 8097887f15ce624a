"""Data made worse on purpose, to measure what helps: wrong labels (the field's two models), classes that are rare."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from commentary_hub.data._examples import Examples
from commentary_hub.errors import InputError, LabelError

LabelNoise = Literal["pairwise", "symmetric"]


def corrupt_labels(examples: Examples, share: float, *, noise: LabelNoise, seed: int) -> tuple[Examples, Tensor]:
    """The examples with ``share`` of their labels wrong, and which ones are: a bool [N].

    ``pairwise``: a mistaken label is the next class (as an annotator confuses neighbours; the last class becomes the
    first); ``symmetric``: any other class with equal chance. Exactly round(share · N) labels are wrong.

    >>> from commentary_hub.data import content_keys
    >>> inputs = torch.arange(4.0)[:, None]
    >>> digits = Examples.of(inputs, torch.tensor([0, 1, 2, 0]), keys=content_keys(inputs.numpy()))
    >>> wrong, mistaken = corrupt_labels(digits, 0.5, noise="pairwise", seed=0)
    >>> int(mistaken.sum()), bool((wrong.targets[mistaken] == (digits.targets[mistaken] + 1) % 3).all())
    (2, True)
    """
    if noise not in get_args(LabelNoise):
        raise InputError(f"noise is {noise!r}: choose one of {', '.join(get_args(LabelNoise))}")
    if not 0 <= share <= 1:
        raise InputError(f"share is {share}: give the fraction of wrong labels, from 0 to 1")
    if examples.targets.dim() != 1:
        raise LabelError(f"targets are {list(examples.targets.shape)}: only one label per example can be made wrong")
    classes = examples.class_count
    if classes < 2:
        raise LabelError(f"there are {classes} classes: a label can only be wrong where there are two", classes=classes)
    generator = torch.Generator().manual_seed(seed)
    size = len(examples)
    mistaken = torch.zeros(size, dtype=torch.bool)
    mistaken[torch.randperm(size, generator=generator)[: round(share * size)]] = True
    steps = torch.ones(size, dtype=torch.int64)
    if noise == "symmetric":
        steps = torch.randint(1, classes, (size,), generator=generator)
    targets = torch.where(mistaken, (examples.targets + steps) % classes, examples.targets)
    return examples.with_targets(targets), mistaken


def long_tailed(examples: Examples, ratio: float, *, seed: int) -> Examples:
    """Examples whose classes are unequally frequent: class c of C keeps n_c · ratio^(−c / (C − 1)) of its n_c.

    The first class keeps all of its examples, the last one in ``ratio``; each keeps at least one. Which ones follows
    ``seed``. Raises `InputError` for a ratio below 1. Source: Cui et al. 2019.

    >>> from commentary_hub.data import open_examples
    >>> few = long_tailed(open_examples("sklearn:digits"), 10, seed=0)
    >>> few.targets.bincount().tolist()
    [178, 141, 106, 85, 65, 51, 39, 30, 22, 18]
    """
    if not ratio >= 1:
        raise InputError(f"ratio is {ratio}: the first class must be at least as frequent as the last")
    generator = torch.Generator().manual_seed(seed)
    last = max(1, examples.class_count - 1)
    kept = []
    for label in range(examples.class_count):
        rows = (examples.targets == label).nonzero()[:, 0]
        count = max(1, round(len(rows) * ratio ** (-label / last)))
        kept.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
    return examples.subset(torch.cat(kept).sort().values)
