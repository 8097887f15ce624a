"""What can be known to be wrong before a learning run begins."""

from __future__ import annotations

from collections.abc import Sequence

from commentary_hub.commentaries import Commentary, ExampleWeights, check_labels
from commentary_hub.data import Examples, check_disjoint
from commentary_hub.errors import InputError, NotDifferentiable, ShapeError, SplitError
from commentary_hub.learning._result import Student


def check_run(
    commentaries: Sequence[Commentary],
    students: Sequence[Student],
    train: Examples,
    validation: Examples,
    *,
    inner_steps: int,
    batch_size: int,
    outer_steps: int,
    average_last: float,
) -> None:
    """Raise the first mistake in what `learn` was given."""
    if not commentaries or not students:
        raise InputError("learning needs at least one commentary and one student")
    for name, value in (("inner_steps", inner_steps), ("batch_size", batch_size), ("outer_steps", outer_steps)):
        if value < 1:
            raise InputError(f"{name} is {value}: it must be at least 1")
    if not 0 <= average_last <= 1:
        raise InputError(f"average_last is {average_last}: give the share of outer steps to average, from 0 to 1")
    if len(train) == 0 or len(validation) == 0:
        empty = "train" if len(train) == 0 else "validation"
        raise SplitError(f"the {empty} set is empty: a commentary is learned on one set and judged on the other")
    check_disjoint(train=train, validation=validation)
    if train.inputs.shape[1:] != validation.inputs.shape[1:]:
        raise ShapeError(
            f"train inputs are {list(train.inputs.shape[1:])} each, validation inputs "
            f"{list(validation.inputs.shape[1:])}: prepare both alike",
            tensor="validation.inputs",
            shape=tuple(validation.inputs.shape),
        )
    if train.classes is not None:
        check_labels(train.targets, len(train.classes), name="train.targets")
        check_labels(validation.targets, len(train.classes), name="validation.targets")
    for one in commentaries:
        if not any(p.requires_grad for p in one.parameters()):
            raise NotDifferentiable(f"commentary {one.kind!r} has no parameter that requires a gradient")
        if isinstance(one, ExampleWeights) and one.logits.shape[0] != len(train):
            raise ShapeError(
                f"the table has {one.logits.shape[0]} rows for {len(train)} training examples: "
                f"build ExampleWeights(rows={len(train)})",
                tensor="logits",
                shape=tuple(one.logits.shape),
            )
