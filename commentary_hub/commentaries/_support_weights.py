"""Weights for the support examples of few-shot episodes: a function of an example and its company."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from commentary_hub.commentaries._base import Batch, Commentary, Stage
from commentary_hub.commentaries._network import Inner
from commentary_hub.errors import ShapeError

_SHARPNESS = 10.0  # of the soft maximum over the other classes


@final
class SupportWeights(Commentary):
    """w = S · softmax(g_1, …, g_S) with g_i = g(own_i, other_i, alone_i, i/T): weights of one support set, mean 1.

    e [S, D] are embeddings by the network ``encoder``, centred over the support set and of length 1; the encoder is a
    name in the registry with ``settings``, or a caller's module (to be stored it needs a name, as in `WeightNetwork`).
    own_i is the mean cosine of e_i with the *other* examples of its label, other_i the soft maximum over the other
    labels of its mean cosine with their examples, alone_i is 1 where no other example has its label (then own_i is 0).
    g is a small network with ``hidden`` units. Nothing in it knows a class: labels only say who belongs together, so
    what was learned on some alphabets holds for new ones, and permuting the labels changes nothing. Since the mean is
    1, weights set proportions and leave the learning rate alone, under every reduction.

    A batch is a whole support set, since the weights of its examples depend on each other. Cost: one pass of the
    encoder and S² cosines a step.

    >>> _ = torch.manual_seed(0)
    >>> weights = SupportWeights("mlp", {"inputs": 4, "hidden": [], "classes": 3})
    >>> weights(Batch(torch.randn(4, 4), torch.tensor([0, 0, 1, 1])), progress=0.0).weights.shape
    torch.Size([4])
    """

    kind: ClassVar[str] = "support_weights"
    stage: ClassVar[Stage] = Stage.WEIGHT

    def __init__(self, encoder: str | nn.Module, settings: Mapping[str, Any], *, hidden: int = 16) -> None:
        super().__init__()
        self._settings, self._hidden = dict(settings), hidden
        self.encoder = Inner(encoder, settings)
        self.score = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, batch: Batch, progress: Tensor | float) -> Batch:
        """Multiply the support set's weights; raises `ShapeError` for an encoder that gives no vectors."""
        if batch.targets.dim() != 1:
            raise ShapeError(
                f"targets are {list(batch.targets.shape)}: a support set has one label per example",
                tensor="targets",
                shape=tuple(batch.targets.shape),
            )
        embedded = self.encoder(self.encoder.fitted(batch.inputs))
        if embedded.dim() != 2:
            raise ShapeError(
                f"the encoder returned {list(embedded.shape)} for {len(batch.inputs)} examples: it must return [S, D]",
                tensor="embedded",
                shape=tuple(embedded.shape),
            )
        embedded = functional.normalize(embedded - embedded.mean(0), dim=1)
        company = _company(embedded @ embedded.T, batch.targets)
        age = embedded.new_full((len(embedded), 1), float(progress))
        scores = self.score(torch.cat([company, age], dim=1))
        return batch.weighted(len(scores) * torch.softmax(scores.squeeze(1), dim=0))

    def config(self) -> dict[str, Any]:
        """The encoder's name and settings, and the size of g."""
        return {"encoder": self.encoder.name, "settings": self._settings, "hidden": self._hidden}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SupportWeights:
        """Rebuild both networks."""
        return cls(**config)


def _company(cosines: Tensor, targets: Tensor) -> Tensor:
    """(own, other, alone) [S, 3] of every example, from the cosines [S, S] and the labels [S]."""
    labels = torch.unique(targets, return_inverse=True)[1]
    members = functional.one_hot(labels).to(cosines.dtype)  # [S, C], no label without an example
    counts = members.sum(0)
    sums = cosines @ members
    peers = counts[labels] - 1
    own = (sums.gather(1, labels[:, None]).squeeze(1) - cosines.diagonal()) / peers.clamp_min(1)
    alone = (peers == 0).to(cosines.dtype)
    other = cosines.new_zeros(len(labels))
    if len(counts) > 1:
        others = (_SHARPNESS * sums / counts).masked_fill(members > 0, -torch.inf)
        other = others.logsumexp(1) / _SHARPNESS
    return torch.stack([own * (1 - alone), other, alone], dim=1)
