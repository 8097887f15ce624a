"""Rows in the order in which an artefact stores them: sorted by content key, equal examples merged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from commentary_hub.errors import ShapeError

KEY_BYTES = 16
TARGET_BYTES = 8


@dataclass(frozen=True, slots=True)
class Rows:
    """Whose rows a table holds: content ``keys`` uint8 [N, 16] and ``targets`` digests uint8 [N, 8], in table order."""

    keys: NDArray[np.uint8]
    targets: NDArray[np.uint8]

    def __post_init__(self) -> None:
        rows = len(self.keys)
        if self.keys.shape != (rows, KEY_BYTES) or self.targets.shape != (rows, TARGET_BYTES):
            raise ShapeError(
                f"rows need keys [N, {KEY_BYTES}] and targets [N, {TARGET_BYTES}] of bytes, got "
                f"{list(self.keys.shape)} and {list(self.targets.shape)}",
                tensor="keys",
            )

    def sort(self) -> tuple[Rows, Tensor]:
        """Sorted and merged rows, and the stored row [N] int64 of each original one.

        Examples that are equal in content *and* target share one stored row; equal content with different targets
        stays apart, since a label may be right in one and wrong in the other.
        """
        both = np.ascontiguousarray(np.concatenate([self.keys, self.targets], axis=1))
        width = KEY_BYTES + TARGET_BYTES
        unique, inverse = np.unique(both.view(np.dtype((np.void, width))).ravel(), return_inverse=True)
        table = unique.view(np.uint8).reshape(-1, width)
        return Rows(table[:, :KEY_BYTES].copy(), table[:, KEY_BYTES:].copy()), torch.from_numpy(
            inverse.astype(np.int64)
        )


def merge_rows(table: Tensor, stored_row: Tensor, rows: int) -> Tensor:
    """The stored table [rows, …]: the mean over the original rows that share a stored one.

    >>> merge_rows(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([1, 1, 0]), 2).tolist()
    [[5.0], [2.0]]
    """
    table = table.detach().cpu()
    counts = torch.bincount(stored_row, minlength=rows).clamp_min(1)
    total = torch.zeros((rows, *table.shape[1:]), dtype=torch.float64).index_add_(0, stored_row, table.double())
    return (total / counts.reshape(-1, *[1] * (table.dim() - 1))).to(table.dtype)
