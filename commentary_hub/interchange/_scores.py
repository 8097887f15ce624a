"""What another tool says about the examples of a dataset, before it is bound to any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from commentary_hub.errors import InputError, ShapeError

Values = NDArray[np.float64]
_MOST_DIGITS = 18  # such a number fits int64


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """One number [N] for each example, from the file ``path`` of ``tool``.

    ``places`` names the examples as the tool does: positions in its dataset, or ids of the user's own. ``useful`` says
    whether high scores mark good examples (``None`` where the tool leaves it open), ``unit`` whether the scores are
    shares in [0, 1] by their definition. Raises `ShapeError` and `InputError` for numbers that are no scores.
    """

    tool: str
    measure: str
    path: Path
    values: Values
    places: Sequence[int] | Sequence[str]
    useful: bool | None
    unit: bool

    def __post_init__(self) -> None:
        if self.values.size == 0:
            raise InputError(f"{self.path}: {self.measure} holds no scores")
        if self.values.ndim != 1 or len(self.places) != len(self.values):
            raise ShapeError(
                f"{self.path}: {self.measure} has shape {list(self.values.shape)} for {len(self.places):,} examples: "
                "one number for each is needed",
                tensor=self.measure,
            )
        if not np.isfinite(self.values).all():
            wrong = int((~np.isfinite(self.values)).sum())
            raise InputError(f"{self.path}: {wrong:,} values of {self.measure} are no finite numbers: drop these rows")
        unnamed = sum(place is None or place == "" or isinstance(place, (list, dict)) for place in self.places)
        if unnamed:
            raise InputError(f"{self.path}: {unnamed:,} examples have neither name nor position: drop these rows")
        if len(set(self.places)) < len(self.places):
            raise InputError(f"{self.path}: some examples have several values of {self.measure}: keep one for each")

    def positions(self, size: int, ids: Sequence[object] | None) -> NDArray[np.int64]:
        """The position [N] in a dataset of ``size`` examples of each score; ``ids`` are the examples' names there.

        Raises `InputError` where a place is none of the dataset's, or where two are the same one.
        """
        if ids is None:
            return self._as_positions(size)
        if len(ids) != size:
            raise InputError(f"there are {len(ids):,} ids for {size:,} examples: give one for each")
        known = {str(name): position for position, name in enumerate(ids)}
        if len(known) < size:
            raise InputError("the ids of the dataset are not different from each other: name another column (ids=)")
        missing = [str(place) for place in self.places if str(place) not in known]
        if missing:
            raise InputError(
                f"{self.path}: {len(missing):,} examples ({', '.join(missing[:3])} …) are none of the dataset's: give "
                "the dataset that was scored",
                missing=len(missing),
            )
        return np.array([known[str(place)] for place in self.places], dtype=np.int64)

    def _as_positions(self, size: int) -> NDArray[np.int64]:
        if isinstance(self.places, range) and len(self.places) != size:
            raise InputError(
                f"{self.path} scores {len(self.places):,} examples by their order, the dataset has {size:,}: give the "
                "dataset, and the split, that was scored",
                size=size,
            )
        named = [place for place in self.places if not _is_position(place)]
        if named:
            raise InputError(
                f"{self.path} names its examples ({named[0]!r} is no position 0, 1, 2 …): say which column of the "
                "dataset holds these names (ids=)"
            )
        positions = np.array([int(place) for place in self.places], dtype=np.int64)
        if len(np.unique(positions)) < len(positions):
            raise InputError(f"{self.path}: some positions are there twice, spelt differently: keep one of each")
        if int(positions.max()) >= size:
            raise InputError(
                f"{self.path} scores the examples {int(positions.min()):,} to {int(positions.max()):,}, the dataset "
                f"has {size:,}: give the dataset, and the split, that was scored",
                size=size,
            )
        return positions


def _is_position(place: object) -> bool:
    """Whether what a tool calls an example is a whole number from 0 on.

    >>> [_is_position(place) for place in (7, 7.0, "7", 2.5, -1, "1_2", True)]
    [True, True, True, False, False, False, False]
    """
    if isinstance(place, str):
        return place.isascii() and place.isdecimal() and len(place) <= _MOST_DIGITS
    if isinstance(place, bool) or not isinstance(place, (int, float, np.integer)):
        return False
    return bool(0 <= place < 10**_MOST_DIGITS and place == int(place))


def column(path: Path, table: Mapping[str, Any], measure: str) -> Values:
    """One column of numbers; `InputError` naming the others where it is missing or none."""
    if measure not in table:
        raise InputError(f"{path} has no {measure!r}: it has {', '.join(map(repr, table))}", column=measure)
    try:
        return np.asarray(table[measure], dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{path}: {measure!r} holds no numbers: choose another (measure=)", column=measure) from None
