"""Per-example losses: what commentaries weight. One number per example, also where an example is a sequence."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from commentary_hub.data import IGNORED
from commentary_hub.errors import LabelError, ShapeError

Criterion = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Per-example cross-entropy [B] of logits ``outputs`` [B, C] against class indices ``targets`` [B].

    Raises `LabelError` for targets that are no integers and `ShapeError` for other shapes or fewer than two classes,
    which torch would read as soft labels, broadcast, or give loss 0.

    >>> import torch
    >>> cross_entropy(torch.zeros(2, 4), torch.tensor([3, 0]))
    tensor([1.3863, 1.3863])
    """
    if targets.is_floating_point():
        raise LabelError(
            f"targets are {targets.dtype} {list(targets.shape)}, cross_entropy takes class indices: give "
            "criterion=squared_error for numbers, criterion=binary_cross_entropy for several labels per example, or "
            "one of your own",
            tensor="targets",
        )
    if targets.shape != outputs.shape[:1] or outputs.dim() != 2 or outputs.shape[1] < 2:
        raise ShapeError(
            f"outputs are {list(outputs.shape)} and targets {list(targets.shape)}, cross_entropy takes [B, C] of two "
            "classes or more and [B]: give criterion=binary_cross_entropy for one logit or several labels per example, "
            "criterion=token_cross_entropy for one label per token, or one of your own",
            tensor="outputs",
            shape=tuple(outputs.shape),
        )
    return functional.cross_entropy(outputs, targets.long(), reduction="none")


def binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Per-example loss [B] of C labels that are each there or not: −(1/C) Σ_c y_c log p_c + (1 − y_c) log(1 − p_c).

    p = sigmoid of the logits ``outputs`` [B, C]; ``targets`` [B, C] hold 0 or 1 of any type, or shares between. For
    one label per example targets [B] go with outputs [B] or [B, 1]. Raises `ShapeError` for any other shapes.

    >>> import torch
    >>> binary_cross_entropy(torch.zeros(1, 3), torch.tensor([[1, 0, 1]]))
    tensor([0.6931])
    """
    outputs = _shaped(outputs, targets)
    return _means(functional.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none"))


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Per-example squared error [B], for regression: (o − y)², the mean of it where an example has several numbers.

    ``outputs`` [B] or [B, 1] go with ``targets`` [B], otherwise both have the same shape [B, …]. Raises `ShapeError`
    for any other shapes, which torch would broadcast.

    >>> import torch
    >>> squared_error(torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 1.0]))
    tensor([0., 4.])
    """
    return _means((_shaped(outputs, targets) - targets).square())


def token_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Per-example loss [B]: the mean cross-entropy of ``outputs`` [B, L, C] over tokens whose label is not -100.

    An example without any such token has loss 0.

    >>> import torch
    >>> token_cross_entropy(torch.zeros(1, 2, 4), torch.tensor([[1, -100]]))
    tensor([1.3863])
    """
    losses = functional.cross_entropy(outputs.transpose(1, 2), targets, reduction="none", ignore_index=IGNORED)
    return losses.sum(dim=1) / (targets != IGNORED).sum(dim=1).clamp_min(1)


def causal_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """`token_cross_entropy` where each position predicts the next token, as causal language models are trained.

    ``targets`` [B, L] are the input ids themselves, -100 where a token is not to be learned (padding).
    """
    return token_cross_entropy(outputs[:, :-1], targets[:, 1:])


def _shaped(outputs: Tensor, targets: Tensor) -> Tensor:
    """``outputs`` in the shape of ``targets``: the same, or one number per example with an axis too many."""
    if outputs.dim() == 2 and outputs.shape == (*targets.shape, 1):
        return outputs.squeeze(1)
    if outputs.shape != targets.shape or not outputs.dim():
        raise ShapeError(
            f"outputs are {list(outputs.shape)} and targets {list(targets.shape)}: this criterion takes the same shape "
            "for both, or [B, 1] and [B]",
            tensor="outputs",
            shape=tuple(outputs.shape),
        )
    return outputs


def _means(losses: Tensor) -> Tensor:
    """The mean of each example's losses: [B, …] → [B]."""
    return losses.flatten(1).mean(1) if losses.dim() > 1 else losses
