"""What stored commentaries say about how they want to be applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from commentary_hub.artefact import StoredCommentary
from commentary_hub.commentaries import Reduction
from commentary_hub.errors import InputError

Stored = StoredCommentary | Sequence[StoredCommentary]


def in_order(commentaries: Stored, threshold: float) -> tuple[StoredCommentary, ...]:
    """One or more commentaries in the order of their stages; raises `InputError` for none, or a bad threshold."""
    given: Any = commentaries  # whatever a caller without a type checker hands in
    stored = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for one in stored:
        if not isinstance(one, StoredCommentary):
            raise InputError(
                f"{type(one).__name__} is no stored commentary: give what load returned for it as the first argument"
            )
    if not stored:
        raise InputError("there is no commentary to bind: give at least one")
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}: give a share from 0 to 1")
    return tuple(sorted(stored, key=lambda one: one.commentary.stage))


def default_reduction(stored: Sequence[StoredCommentary]) -> Reduction:
    """``weight_mean`` where the first was learned with it, else ``mean``.

    A stored ``sum`` would tie the learning rate to the batch size.
    """
    return "weight_mean" if stored[0].manifest.loss_reduction == "weight_mean" else "mean"


def default_steps(stored: Sequence[StoredCommentary]) -> int | None:
    """T of the first commentary that knows."""
    return next((one.manifest.iterations.steps for one in stored if one.manifest.iterations), None)
