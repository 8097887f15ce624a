"""What a commentary thinks of each example, and which it thinks most and least of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from commentary_hub.artefact import StoredCommentary
from commentary_hub.commentaries import Batch, ExampleWeights, WeightNetwork
from commentary_hub.data import Examples
from commentary_hub.insight._extremes import as_numbers, known_rows
from commentary_hub.insight._labels import label_words
from commentary_hub.insight._weights import Weights

_STAGES = 16
_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Ranked:
    """One example: its ``position`` among those that were ranked, its ``label`` and its ``weight``."""

    position: int
    label: str
    weight: float


def ranked(stored: StoredCommentary, examples: Examples, count: int) -> tuple[list[Ranked], list[Ranked]]:
    """The ``count`` examples of highest and of lowest weight (mean over training), the outermost first.

    Never one example in both; both are empty for kinds that weigh no examples. Raises `WrongDataset` where no example
    is known to a table.
    """
    weights = weights_over_training(stored, examples)
    if weights is None:
        return [], []
    means: NDArray[np.float64] = weights.mean(axis=1)
    known = np.flatnonzero(~np.isnan(means))
    count = min(count, len(known) // 2)
    order = known[np.argsort(means[known], kind="stable")]

    def said(position: int) -> Ranked:
        label = label_words(examples.targets[position], examples.classes)
        return Ranked(position, label, float(means[position]))

    return [said(int(at)) for at in order[::-1][:count]], [said(int(at)) for at in order[:count]]


def weights_over_training(stored: StoredCommentary, examples: Examples) -> Weights | None:
    """Weights [N, S] in S stages of training, NaN for examples that a table does not know; ``None`` for other kinds."""
    match stored.commentary:
        case ExampleWeights() as table:
            rows = known_rows(stored, examples)
            weights = np.full((len(rows), table.logits.shape[1]), np.nan)
            weights[rows >= 0] = as_numbers(table.logits[rows[rows >= 0]].float().sigmoid())
            return weights
        case WeightNetwork() as network:
            stages = _STAGES if network.progress else 1
            return np.stack([_weighed(network, examples, (stage + 0.5) / stages) for stage in range(stages)], axis=1)
        case _:
            return None


@torch.no_grad()
def _weighed(commentary: WeightNetwork, examples: Examples, progress: float) -> Weights:
    parts = []
    # Parts of nearly one size: batch normalisation has nothing to say of a last example alone.
    for part in torch.arange(len(examples)).tensor_split(-(-len(examples) // _CHUNK)):
        batch = commentary(Batch(examples.inputs[part], examples.targets[part]), progress)
        assert batch.weights is not None
        parts.append(as_numbers(batch.weights))
    return np.concatenate(parts)
