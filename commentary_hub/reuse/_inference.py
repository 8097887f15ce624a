"""A trained student as it is to be used: some commentaries change what it sees, and it learned to see that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from commentary_hub.commentaries import Batch, Commentary
from commentary_hub.reuse._stored import Stored, in_order


def at_inference(commentaries: Stored, student: nn.Module) -> nn.Module:
    """``student`` behind those commentaries that act at inference too (masks); it itself where there are none.

    No dataset is needed. A student that was trained under masks and is then shown bare pictures is worse than one that
    never saw a mask. Cost: one pass of each mask's network per batch.
    """
    acting = [one.commentary for one in in_order(commentaries, 0.0) if one.commentary.at_inference]
    return _Seeing(acting, student) if acting else student


class _Seeing(nn.Module):
    """inputs → student(inputs as the commentaries change them); only the student is trained."""

    def __init__(self, commentaries: Sequence[Commentary], student: nn.Module) -> None:
        super().__init__()
        self.commentaries = nn.ModuleList(commentaries)
        self.student = student

    def forward(self, inputs: Tensor) -> Any:
        """What the student says of the changed inputs."""
        targets = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
        batch = Batch(inputs, targets)
        for commentary in self.commentaries:
            batch = commentary(batch, 1.0)
        return self.student(batch.inputs)
