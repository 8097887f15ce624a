"""Targets as class indices, by the names of the classes; and what to say of rows that lack something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from commentary_hub.data._raw import RawExamples
from commentary_hub.errors import InputError, LabelError


def class_indices(targets: Sequence[Any], classes: tuple[str, ...] | None) -> tuple[Tensor, tuple[str, ...] | None]:
    """Targets as int64 class indices, and the classes' names; strings are numbered in the sorted order of names."""
    lacking = [target is None for target in targets]
    if all(lacking):
        raise InputError("the dataset has no targets: name the column that holds them (targets=)")
    if any(lacking):
        raise missing_rows(lacking, "target")
    if isinstance(targets[0], str):
        names = classes or _distinct_names(targets)
        numbers = {name: number for number, name in enumerate(names)}
        unknown = sorted({str(target) for target in targets if not isinstance(target, str) or target not in numbers})
        if unknown:
            raise LabelError(f"label {unknown[0]!r} is none of the {len(names)} classes: map or drop it first")
        return torch.tensor([numbers[target] for target in targets]), names
    plain = [_untensored(target) for target in targets]
    try:
        array = np.asarray(plain)
    except ValueError:  # lists of unequal length
        array = np.asarray(None)
    if array.ndim != 1 or array.dtype.kind not in "biu":
        odd = next((target for target in plain if not isinstance(target, (int, np.integer))), plain[0])
        raise LabelError(
            f"a target is {odd!r}: expected a class index or a class name for every example (where targets are "
            "numbers to be met, build Examples.of)"
        )
    return torch.from_numpy(array.astype(np.int64)), classes


def _untensored(target: Any) -> Any:
    if not isinstance(target, Tensor):
        return target
    return target.item() if target.numel() == 1 else target.tolist()


def class_names(raw: RawExamples) -> tuple[str, ...] | None:
    """The names by which `open_examples` numbers the classes of ``raw``: its own, or targets that are strings, sorted.

    ``None`` where targets are numbers without names. Raises `LabelError` where only some targets are strings,
    `InputError` where one is missing. Cost: one pass over the raw examples where targets must be looked at.
    """
    if raw.classes or not isinstance(raw.read(np.array([0]))[1][0], str):
        return raw.classes
    return _distinct_names([target for _, targets in raw.chunks() for target in targets])


def _distinct_names(targets: Sequence[Any]) -> tuple[str, ...]:
    if any(target is None for target in targets):
        raise missing_rows([target is None for target in targets], "target")
    others = [target for target in targets if not isinstance(target, str)]
    if others:
        raise LabelError(f"some targets are class names, {others[0]!r} is none: map or drop it first")
    return tuple(sorted(set(targets)))


def renumbered(
    indices: Tensor, found: tuple[str, ...] | None, wanted: tuple[str, ...] | None
) -> tuple[Tensor, tuple[str, ...] | None]:
    """Class indices by the names that were ``found``, by those that are ``wanted``."""
    numbered = bool(((indices >= 0) & (indices < len(found or ()))).all())  # what is not is refused later
    if wanted is None or found is None or found == wanted or not numbered:
        return indices, wanted or found
    places = {name: number for number, name in enumerate(wanted)}
    used = sorted(set(indices.tolist()))
    unknown = [found[number] for number in used if found[number] not in places]
    if unknown:
        raise LabelError(f"class {unknown[0]!r} of the dataset is none of classes= ({', '.join(wanted)})")
    table = torch.full((len(found),), -1)
    table[used] = torch.tensor([places[found[number]] for number in used])
    return table[indices], wanted


def missing_rows(lacking: Sequence[bool], what: str) -> InputError:
    """What to say of the rows that lack something: which is the first, and how many there are."""
    rows = np.flatnonzero(lacking)
    return InputError(
        f"row {rows[0]} has no {what} ({len(rows):,} of {len(lacking):,} rows lack one): fill it in, or drop such rows",
        row=int(rows[0]),
        count=len(rows),
    )


def called(what: str, names: Sequence[str]) -> str:
    return f"{what} for {names[0]!r}" if names else what
