"""What makes a commentary and a dataset unfit for each other, said before training starts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from commentary_hub.artefact import StoredCommentary
from commentary_hub.commentaries import Batch, Commentary
from commentary_hub.data import Form, salt_check
from commentary_hub.errors import (
    BindingError,
    ClassesDiffer,
    CommentaryHubError,
    ConflictingRows,
    ShapeError,
    TooFewRows,
    WrongDataset,
)
from commentary_hub.manifest import Manifest
from commentary_hub.reuse._match import Match

_CHUNK = 1 << 20
_WORDS = re.compile(r"[^\W_]+")


def check_dataset(manifest: Manifest, *, form: Form, classes: tuple[str, ...] | None, salt: str | bytes | None) -> None:
    """Raise unless the dataset holds examples of the commentary's form, under its classes, and the salt is right."""
    scheme, learned = manifest.dataset.key, manifest.dataset.identity.id
    check_salt(manifest, salt)
    if scheme.form not in {"none", form}:
        raise WrongDataset(
            f"{manifest.name} was learned on {scheme.form} examples of {learned}, this dataset holds {form} ones: "
            "bind the dataset before its transforms, or another commentary",
            expected=scheme.form,
            found=form,
        )
    known = manifest.dataset.classes
    differing = None if known is None or classes is None else _differing(known, classes)
    if known is not None and classes is not None and differing is not None:
        number, there, here = differing
        raise ClassesDiffer(
            f"{manifest.name} knows {len(known)} classes, the dataset has {len(classes)}; number {number} is {there} "
            f"there and {here} here: give them the same names in the same order",
            expected=known,
            found=classes,
        )


def _differing(known: Sequence[str], found: Sequence[str]) -> tuple[int, str, str] | None:
    """The first class that is another in ``found``: its number and both names.

    Spelling aside: names are the same where the words of one are among those of the other.

    >>> _differing(["0", "T - shirt / top"], ["0 - zero", "t-shirt/top"])
    >>> _differing(["cat", "dog"], ["cat", "cow"]), _differing(["cat"], ["cat", "dog"])
    ((1, "'dog'", "'cow'"), (1, 'none', "'dog'"))
    """
    for number, (one, other) in enumerate(zip_longest(known, found)):
        if one is None or other is None:
            return number, "none" if one is None else repr(one), "none" if other is None else repr(other)
        words, others = (set(_WORDS.findall(name.casefold())) for name in (one, other))
        if not (words <= others or others <= words):
            return number, repr(one), repr(other)
    return None


def check_salt(manifest: Manifest, salt: str | bytes | None) -> None:
    """Raise `BindingError` where the keys are salted and ``salt`` is missing or another one."""
    scheme = manifest.dataset.key
    if scheme.salted and salt is None:
        raise BindingError(f"{manifest.name} has salted keys: give the salt that its owner holds (salt=)")
    if scheme.salted and salt is not None and scheme.salt_check not in {None, salt_check(salt)}:
        raise BindingError(f"this is not the salt that {manifest.name} was made with: ask its owner")


def check_labels(one: StoredCommentary, *, classes: tuple[str, ...] | None, some: Sequence[Any]) -> None:
    """Raise `ClassesDiffer` where a commentary that looks at labels knows another number of classes.

    Of a dataset without names of classes ``some`` targets are looked at.
    """
    known = one.commentary.classes
    if known is None:
        return
    numbers = [int(target) for target in some if isinstance(target, (int, np.integer, Tensor))]
    found = len(classes) if classes is not None else max(numbers, default=-1) + 1
    if found > known or (classes is not None and found != known):
        raise ClassesDiffer(
            f"{one.manifest.name} knows {known} classes, the dataset has {found}{'' if classes else ' or more'}: bring "
            "the labels to the classes it was learned with",
            expected=known,
            found=found,
        )


def check_counts(manifest: Manifest, match: Match, threshold: float, *, same: bool) -> None:
    """Raise unless a share ``threshold`` of the examples was found; ``same``: the dataset has its fingerprint."""
    size, learned = len(match.rows), manifest.dataset.identity.id
    facts = {"found": match.found, "missing": match.missing, "other_target": match.other_target, "size": size}
    if match.found + match.other_target == 0:
        raise WrongDataset(
            f"none of the {size:,} examples is known to {manifest.name}, which was learned on {learned}: "
            "bind that dataset as it is, its examples not resized, converted or compressed anew, and opened the same "
            "way (torchvision's ImageFolder turns grey pictures into RGB, a folder's path keeps them)",
            **facts,
        )
    if match.found < threshold * size:
        enough = math.floor(100 * match.found / size) / 100
        advice = (
            f"bind the part of {learned} that it was learned on, or give the others the neutral weight "
            f"(threshold={enough:g})"
        )
        if match.other_target > match.missing:
            advice = "give the targets that it was learned with (were classes renumbered?) or lower threshold="
        raise TooFewRows(
            f"{manifest.name} knows {match.found:,} of {size:,} examples ({match.missing:,} are missing, "
            f"{match.other_target:,} have another target{'; the examples are the same' if same else ''}), the "
            f"threshold is {threshold:.0%}: {advice}",
            **facts,
        )


def check_conflicts(one: StoredCommentary, rows: NDArray[np.int64], *, labelled: bool) -> None:
    """Rows of equal key (and target, where targets are known) must hold the same values, or nobody knows which holds.

    Such rows are neighbours in the table, and saving merges them; only a table made elsewhere, or a dataset without
    targets, meets this.
    """
    table = one.rows
    assert table is not None
    state = one.commentary.state_dict()
    for used in _used_rows(rows, len(table.keys)):
        twin = (table.keys[used] == table.keys[used + 1]).all(axis=1)
        if labelled:
            twin &= (table.targets[used] == table.targets[used + 1]).all(axis=1)
        twins = used[twin]
        for name in one.commentary.row_tensors if len(twins) else ():
            values = state[name]
            differ = twins[(values[twins] != values[twins + 1]).flatten(1).any(dim=1).numpy()]
            if len(differ):
                what = "content and target" if labelled else "content"
                advice = (
                    "save it again, which merges them" if labelled else "bind the dataset with its targets (targets=)"
                )
                raise ConflictingRows(
                    f"{one.manifest.name} holds different values for {len(differ):,} examples of equal {what}: "
                    f"{advice}",
                    rows=differ.tolist()[:10],
                )


def check_inputs(name: str, commentary: Commentary, sample: Any) -> None:
    """Raise `BindingError` where a commentary cannot take the inputs that the dataset gives (a mask of another size).

    ``sample`` is one sample as training will see it. What is not yet a float tensor becomes one later: there is
    nothing to check.
    """
    inputs = sample[0] if isinstance(sample, (tuple, list)) else sample
    if isinstance(sample, Mapping):
        floats = [entry for entry in sample.values() if isinstance(entry, Tensor) and entry.is_floating_point()]
        inputs = floats[0] if len(floats) == 1 else None
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or commentary.row_tensors:
        return
    # Two of them: batch normalisation takes nothing from one example that has come down to one number a channel.
    batch = Batch(torch.stack([inputs, inputs]), torch.zeros(2, dtype=torch.int64), rows=torch.tensor([-1, -1]))
    try:
        with torch.no_grad():
            changed = commentary(batch, 0.0)
    except (RuntimeError, CommentaryHubError) as error:
        raise BindingError(
            f"{name} cannot take inputs of shape {list(inputs.shape)} ({str(error).splitlines()[0]}): bring the "
            "inputs to the size and channels that it was learned on",
            shape=tuple(inputs.shape),
        ) from error
    if changed.inputs.shape != batch.inputs.shape:
        raise ShapeError(
            f"{name} turns inputs of shape {list(inputs.shape)} into {list(changed.inputs.shape[1:])}: bring the "
            "inputs to the size and channels that it was learned on",
            shape=tuple(inputs.shape),
        )


def _used_rows(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """The used rows that have a next one, in parts: all of the table where most of it is used anyway."""
    if len(rows) < size // 16:
        used = np.unique(rows[rows >= 0])
        yield used[used + 1 < size]
        return
    in_use = np.zeros(size + 1, dtype=bool)
    in_use[rows] = True  # -1, for none, falls on the last place, beyond the table
    for low in range(0, size - 1, _CHUNK):
        span = np.arange(low, min(low + _CHUNK, size - 1))
        yield span[in_use[low : low + len(span)]]
