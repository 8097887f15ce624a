"""Networks for token ids: a classifier and a character language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class TextCNN(nn.Module):
    """Embedding, convolutions of several widths over time, mean over time, a linear layer: ids [B, L] → [B, classes].

    Id 0 is padding and counts for nothing. The pooling is a mean, so that the network is smooth in its parameters.
    """

    def __init__(self, vocabulary: int, classes: int, *, width: int = 32, kernels: tuple[int, ...] = (1, 3)) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, k, padding=k // 2) for k in kernels)
        self.head = nn.Linear(width * len(kernels), classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits."""
        known = (inputs > 0).to(self.head.weight.dtype)[:, None]
        embedded = self.embedding(inputs).transpose(1, 2) * known
        length = known.sum(2).clamp_min(1)
        pooled = [(functional.relu(c(embedded)) * known).sum(2) / length for c in self.convolutions]
        logits: Tensor = self.head(torch.cat(pooled, dim=1))
        return logits


class CharLM(nn.Module):
    """A causal convolutional language model over characters: ids [B, L] → logits [B, L, vocabulary] of the next one."""

    def __init__(self, vocabulary: int, *, width: int = 64, layers: int = 3, kernel: int = 5) -> None:
        super().__init__()
        if not 0 <= layers <= 256:
            raise ValueError(f"layers is {layers}: give 0 to 256")
        self.embedding = nn.Embedding(vocabulary, width)
        self.past = kernel - 1
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, kernel) for _ in range(layers))
        self.head = nn.Linear(width, vocabulary)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits."""
        hidden = self.embedding(inputs).transpose(1, 2)
        for convolution in self.convolutions:
            hidden = hidden + functional.relu(convolution(functional.pad(hidden, (self.past, 0))))
        logits: Tensor = self.head(hidden.transpose(1, 2))
        return logits
