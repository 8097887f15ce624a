"""What can be known to be wrong before a learning run begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from commentary_hub.commentaries import Commentary, ExampleWeights, MixtureWeights, check_labels
from commentary_hub.data import Examples, check_disjoint, check_same_classes
from commentary_hub.errors import (
    CommentaryHubError,
    InputError,
    LabelError,
    NotDifferentiable,
    ShapeError,
    SplitError,
    StatefulModule,
)
from commentary_hub.learning._problem import State, Training, advance, follow, own_generators
from commentary_hub.learning._result import Student


def check_run(
    commentaries: Sequence[Commentary],
    students: Sequence[Student],
    train: Examples,
    validation: Examples,
    *,
    counts: Mapping[str, int | None],
    average_last: float,
) -> None:
    """Raise the first mistake in what `learn` was given; ``counts`` are settings that must be at least 1."""
    if not commentaries or not students:
        raise InputError("learning needs at least one commentary and one student")
    for name, value in counts.items():
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}: it must be at least 1")
    if not 0 <= average_last <= 1:
        raise InputError(f"average_last is {average_last}: give the share of outer steps to average, from 0 to 1")
    if len(train) == 0 or len(validation) == 0:
        empty = "train" if len(train) == 0 else "validation"
        raise SplitError(f"the {empty} set is empty: a commentary is learned on one set and judged on the other")
    check_disjoint(train=train, validation=validation)
    check_same_classes(train=train, validation=validation)
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
        _check_commentary(one, train)


def _check_commentary(one: Commentary, train: Examples) -> None:
    """Raise where a commentary cannot be learned on these examples."""
    if not any(p.requires_grad for p in one.parameters()):
        raise NotDifferentiable(f"commentary {one.kind!r} has no parameter that requires a gradient")
    if one.classes is not None and train.classes is not None and one.classes != len(train.classes):
        raise LabelError(
            f"commentary {one.kind!r} is built for {one.classes} classes, the training set has "
            f"{len(train.classes)}: give it classes={len(train.classes)}",
            classes=one.classes,
        )
    if isinstance(one, ExampleWeights) and one.logits.shape[0] != len(train):
        raise ShapeError(
            f"the table has {one.logits.shape[0]} rows for {len(train)} training examples: "
            f"build ExampleWeights(rows={len(train)})",
            tensor="logits",
            shape=tuple(one.logits.shape),
        )
    if isinstance(one, MixtureWeights) and (one.row_sources is None or len(one.row_sources) != len(train)):
        known = 0 if one.row_sources is None else len(one.row_sources)
        raise ShapeError(
            f"the mixture knows the sources of {known} rows, there are {len(train)} training examples: "
            "build MixtureWeights(…, row_sources=) with a number for each",
            tensor="row_sources",
        )


def check_optimiser(optimiser: torch.optim.Optimizer) -> None:
    """Raise `InputError` for what cannot take a hypergradient as it is given."""
    if isinstance(optimiser, torch.optim.LBFGS | torch.optim.SparseAdam):
        raise InputError(
            f"{type(optimiser).__name__} cannot update a commentary: it asks for the loss again, or for sparse "
            "gradients; take any other optimiser of torch.optim"
        )


def try_student(problem: Training, name: str) -> None:
    """One step of a student before the long run begins, so that its mistakes show at once and by name.

    Raises `StatefulModule`, `NotDifferentiable`, `LabelError`, or `InputError` for whatever else it cannot do.
    """
    try:
        with own_generators(problem.inputs.device):
            _try_step(problem, name)
    except CommentaryHubError:
        raise
    except IndexError as error:
        if "Target" not in str(error):  # an embedding's words for an id that it doesn't have
            raise InputError(
                f"student {name!r} looked up an index that it does not have ({error}): token ids run to "
                f"{int(problem.inputs.max())}, is its vocabulary larger than that?",
                student=name,
            ) from error
        raise LabelError(
            f"student {name!r} has fewer outputs than there are labels (0 to {int(problem.targets.max())}): {error}",
            student=name,
        ) from error
    except RuntimeError as error:
        if "in-place" in str(error) or "inplace" in str(error):
            raise StatefulModule(
                f"student {name!r} changes a tensor in place while it runs ({error}): return new tensors instead",
                student=name,
            ) from error
        raise InputError(
            f"student {name!r} cannot be trained on inputs {list(problem.inputs.shape[1:])} with labels up to "
            f"{int(problem.targets.max())}: {error}",
            student=name,
        ) from error


def _try_step(problem: Training, name: str) -> None:
    start = problem.start()
    after = follow(problem, start.leaves(), 0)
    outer = problem.outer_loss(after)
    _check_buffers(problem, start, after, name)
    again = advance(problem, start.leaves(), 0)
    for moved, other in zip(after.parameters, again.parameters, strict=True):
        if not torch.allclose(moved, other, rtol=1e-3, atol=1e-5, equal_nan=True):
            raise StatefulModule(
                f"the same step of student {name!r} has another result the second time: it keeps state outside its "
                "buffers, or draws from a random generator of its own; draw from torch's, which the step seeds",
                student=name,
            )
    found = torch.autograd.grad(outer, problem.commentary, allow_unused=True)
    if all(g is None for g in found):
        kinds = ", ".join(one.kind for one in problem.commentaries)
        raise NotDifferentiable(f"no gradient reaches the commentary ({kinds}) through one step of student {name!r}")


def _check_buffers(problem: Training, before: State, after: State, name: str) -> None:
    """Running statistics of batch normalisation carry no derivative; any other changing buffer would lose one."""
    known = {
        f"{path}.{buffer}" if path else buffer
        for path, module in problem.student.named_modules()
        if isinstance(module, _BatchNorm)
        for buffer, _ in module.named_buffers(recurse=False)
    }
    names = [path for path, _ in problem.student.named_buffers()]
    for path, old, new in zip(names, before.buffers, after.buffers, strict=True):
        if path not in known and not torch.equal(old, new):
            raise StatefulModule(
                f"student {name!r} writes its buffer {path!r} {list(old.shape)} in place, which a derivative through "
                "training would silently miss: only batch normalisation may keep running state",
                tensor=path,
                student=name,
            )
