"""Which examples a commentary values most and least."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from commentary_hub.artefact import StoredCommentary
from commentary_hub.data import Examples
from commentary_hub.errors import InputError, WrongDataset
from commentary_hub.insight._canvas import class_label, short
from commentary_hub.insight._labels import label_words
from commentary_hub.insight._samples import samples
from commentary_hub.insight._thumbnails import thumbnails
from commentary_hub.reuse import match_rows

SHOWN = 24
_NAME_LIMIT = 12
_ONE_LINE = 5


def known_rows(stored: StoredCommentary, examples: Examples) -> NDArray[np.int64]:
    """The table's row [N] of each example, by content and target, -1 for none; `WrongDataset` where all have none."""
    table = stored.rows
    if table is None:
        raise InputError(f"{stored.manifest.name} has no table of rows: its pictures need no matching")
    match = match_rows(table.keys, table.targets, examples.keys, examples.target_digests)
    if not match.found:
        raise WrongDataset(
            f"none of the {len(examples):,} examples is known to {stored.manifest.name} ({match.other_target:,} have "
            f"another target): open {stored.manifest.dataset.identity.id} as it was learned on, or leave examples out",
            missing=match.missing,
            other_target=match.other_target,
        )
    return match.rows


def extremes(examples: Examples, weights: NDArray[np.float64]) -> dict[str, tuple[bytes, str]]:
    """``highest.png`` and ``lowest.png``: the pictures that weigh most and least, from the outermost on.

    And ``samples.png``: some of all weights, on a sheet that the hub's pages read (see `samples`).

    ``weights`` [N] holds one weight per example, NaN where it is not known. At most 24 in each, and never one picture
    in both; nothing for inputs that are no pictures [N, C, H, W], or for fewer than two known ones.
    """
    known = np.flatnonzero(~np.isnan(weights))
    count = min(SHOWN, len(known) // 2)
    if examples.inputs.dim() != 4 or count == 0:
        return {}
    order = known[np.argsort(weights[known], kind="stable")]
    sides = {"highest": order[::-1][:count], "lowest": order[:count]}
    found = {}
    for side, chosen in sides.items():
        title = f"The {count} examples with the {side} weights"
        first, last = weights[chosen[0]], weights[chosen[-1]]
        alt = f"{title}, from {first:.2f} to {last:.2f}, each with its label and weight."
        found[f"{side}.png"] = _grid(examples, chosen, weights[chosen], title=title), alt
    found["samples.png"] = samples(examples.subset(np.ascontiguousarray(known)), weights[known])
    return found


def _grid(examples: Examples, chosen: NDArray[np.int64], weights: NDArray[np.float64], *, title: str) -> bytes:
    part = examples.subset(np.ascontiguousarray(chosen))
    names = part.classes and tuple(class_label(part.classes, at, limit=_NAME_LIMIT) for at in range(len(part.classes)))
    labels = [short(label_words(target, names), _NAME_LIMIT) for target in part.targets]
    gap = " · " if max(map(len, labels)) <= _ONE_LINE else "\n"
    captions = [f"{label}{gap}{weight:.2f}" for label, weight in zip(labels, weights, strict=True)]
    return thumbnails(part.inputs, captions, title=title)


def as_numbers(values: torch.Tensor) -> NDArray[np.float64]:
    """A tensor of any float type as float64 on the CPU."""
    return values.detach().cpu().double().numpy()
