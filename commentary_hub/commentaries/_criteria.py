"""Per-example losses: what commentaries weight. One number per example, also where an example is a sequence."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

_IGNORED = -100  # a token target that counts for nothing, as everywhere in torch and transformers

Criterion = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Per-example cross-entropy [B] of logits ``outputs`` [B, C] against class indices ``targets`` [B]."""
    return functional.cross_entropy(outputs, targets, reduction="none")


def token_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Per-example loss [B]: the mean cross-entropy of ``outputs`` [B, L, C] over tokens whose label is not -100.

    An example without any such token has loss 0.

    >>> import torch
    >>> token_cross_entropy(torch.zeros(1, 2, 4), torch.tensor([[1, -100]]))
    tensor([1.3863])
    """
    losses = functional.cross_entropy(outputs.transpose(1, 2), targets, reduction="none", ignore_index=_IGNORED)
    return losses.sum(dim=1) / (targets != _IGNORED).sum(dim=1).clamp_min(1)


def causal_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """`token_cross_entropy` where each position predicts the next token, as causal language models are trained.

    ``targets`` [B, L] are the input ids themselves, -100 where a token is not to be learned (padding).
    """
    return token_cross_entropy(outputs[:, :-1], targets[:, 1:])
