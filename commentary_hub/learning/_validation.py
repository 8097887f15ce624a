"""What can be known to be wrong before a learning run begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from commentary_hub.commentaries import Commentary, ExampleWeights, MixtureWeights, Reduction, check_labels
from commentary_hub.data import IGNORED, Examples, check_disjoint, check_same_classes
from commentary_hub.errors import (
    CommentaryHubError,
    InputError,
    LabelError,
    NotDifferentiable,
    ShapeError,
    SplitError,
    StatefulModule,
)
from commentary_hub.learning._function import CHECKPOINTED
from commentary_hub.learning._hypergradient import Method
from commentary_hub.learning._optimisers import InnerOptimiser, check_count, check_number
from commentary_hub.learning._problem import State, Training, own_generators
from commentary_hub.learning._result import Student

_SAME, _SAME_IN_HALF = 0.01, 0.1  # relative, of one step's gradient taken twice: rounding is far below


def check_run(
    commentaries: Sequence[Commentary],
    students: Sequence[Student],
    train: Examples,
    validation: Examples,
    *,
    method: Method,
    inner: InnerOptimiser,
    counts: Mapping[str, int | None],
    average_last: float,
    clip_norm: float | None,
) -> None:
    """Raise the first mistake in what `learn` was given; ``counts`` are whole numbers that must be at least 1."""
    _check_parties(commentaries, students, method, inner)
    for name, value in counts.items():
        if value is not None:
            check_count(name, value)
    check_clip_norm(clip_norm)
    if not 0 <= average_last <= 1:
        raise InputError(f"average_last is {average_last}: give the share of outer steps to average, from 0 to 1")
    _check_examples(train, validation)
    for one in commentaries:
        _check_commentary(one, train)


def _check_parties(
    commentaries: Sequence[Commentary], students: Sequence[Student], method: Method, inner: InnerOptimiser
) -> None:
    """Raise where something else stands in the place of a student, a method or an inner optimiser."""
    if not commentaries or not students:
        raise InputError("learning needs at least one commentary and one student")
    for one in students:
        if not isinstance(one, Student) or not callable(one.build) or isinstance(one.build, nn.Module):
            raise InputError(
                f"a student is {type(one).__name__}: give Student(name, build), build being a function that makes a "
                "fresh module"
            )
    for name, given, wanted in (("method", method, "hypergradient"), ("inner", inner, "step")):
        if isinstance(given, type) or not hasattr(given, wanted) or isinstance(given, torch.optim.Optimizer):
            raise InputError(
                f"{name} is {getattr(given, '__name__', type(given).__name__)}: give a value of this library's, as "
                f"{'Unrolled()' if name == 'method' else 'SGD(lr=0.1)'}"
            )


def _check_examples(train: Examples, validation: Examples) -> None:
    """Raise where the two sets do not go together, or are none."""
    for name, examples in (("train", train), ("validation", validation)):
        if not isinstance(examples, Examples):
            raise InputError(f"{name} is {type(examples).__name__}: give Examples, from open_examples or Examples.of")
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
        for name, targets in (("train.targets", train.targets), ("validation.targets", validation.targets)):
            check_labels(targets[targets != IGNORED], len(train.classes), name=name)


def check_clip_norm(clip_norm: float | None) -> None:
    """Raise `InputError` for what the norm of a hypergradient cannot be held to."""
    if clip_norm is not None:
        check_number("clip_norm", clip_norm, positive=True)


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
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise _mended(error, problem, name) from error


def _mended(error: Exception, problem: Training, name: str) -> CommentaryHubError:
    """What a student's own error means for whoever wrote it."""
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "in-place" in said or "inplace" in said:
        return StatefulModule(
            f"student {name!r} changes a tensor in place while it runs ({said}): return new tensors instead",
            student=name,
        )
    if "checkpoint" in said:
        return NotDifferentiable(f"student {name!r} cannot be taught: {CHECKPOINTED}", student=name)
    if any(words in said for words in ("is not implemented", "double backward", "twice differentiable")):
        return NotDifferentiable(
            f"student {name!r} uses an operation without a second derivative ({said}): take another one (a plain "
            "activation, attn_implementation='eager'), and hand over students that are not compiled",
            student=name,
        )
    return InputError(
        f"student {name!r} cannot be trained on inputs {list(problem.inputs.shape[1:])} with labels up to "
        f"{problem.targets.max().item():g}: {said}",
        student=name,
    )


def _try_step(problem: Training, name: str) -> None:
    if problem.reduction not in get_args(Reduction):
        raise InputError(f"reduction is {problem.reduction!r}: choose {', '.join(get_args(Reduction))}")
    problem = replace(problem, batches=_with_extremes(problem))
    start = problem.start()
    leaves = start.leaves()
    slope = problem.slope(leaves, 0, create_graph=True)
    after = problem.update(leaves, slope, 0)
    outer = problem.outer_loss(after)
    _check_buffers(problem, start, after, name)
    again = problem.slope(start, 0, create_graph=False)
    for one, other in zip((g.detach() for g in slope.gradients), again.gradients, strict=True):
        away = float((one - other).norm() / one.norm().clamp_min(torch.finfo(one.dtype).tiny))
        if away > (_SAME if one.dtype in {torch.float32, torch.float64} else _SAME_IN_HALF):
            raise StatefulModule(
                f"the same step of student {name!r} has another gradient the second time (by {away:.1%}): it keeps "
                "state outside its buffers, or it or the augmentation draws from a random generator of its own; draw "
                "from torch's, which the step seeds",
                student=name,
            )
    own = {path: p for path, p in problem.student.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(outer, (*problem.commentary, *own.values()), allow_unused=True)
    count = len(problem.commentary)
    if all(g is None for g in found[:count]):
        kinds = ", ".join(one.kind for one in problem.commentaries)
        raise NotDifferentiable(f"no gradient reaches the commentary ({kinds}) through one step of student {name!r}")
    past = [path for path, g in zip(own, found[count:], strict=True) if g is not None]
    if past:
        raise StatefulModule(
            f"student {name!r} uses its parameter {past[0]!r} past its name (a list or another reference that it "
            "keeps), where training would not reach it: look it up by its name in forward, or use nn.ParameterList",
            student=name,
        )


def _with_extremes(problem: Training) -> Tensor:
    """The batches, the first one with the highest label and the highest token id in it."""
    held = [problem.targets, *([] if problem.inputs.is_floating_point() else [problem.inputs])]
    highest = [int(one.reshape(len(one), -1).amax(1).argmax()) for one in held][: problem.batches.shape[1]]
    batches = problem.batches.clone()
    batches[0, : len(highest)] = torch.tensor(highest, device=batches.device)
    return batches


def _check_buffers(problem: Training, before: State, after: State, name: str) -> None:
    """Running statistics of batch normalisation carry no derivative; any other changing buffer would lose one."""
    known = {
        f"{path}.{buffer}" if path else buffer
        for path, module in problem.student.named_modules()
        if isinstance(module, _BatchNorm)
        for buffer, _ in module.named_buffers(recurse=False)
    }
    for path, old, new in zip(problem.buffer_names, before.buffers, after.buffers, strict=True):
        if path not in known and not torch.equal(old, new):
            raise StatefulModule(
                f"student {name!r} writes its buffer {path!r} {list(old.shape)} in place, which a derivative through "
                "training would silently miss: only batch normalisation may keep running state",
                tensor=path,
                student=name,
            )
