"""A trained student as it is to be used: some commentaries change what it sees, and it learned to see that."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from commentary_hub.commentaries import Batch, Commentary
from commentary_hub.errors import InputError
from commentary_hub.reuse._stored import Stored, in_order

_TOLD = frozenset({"config", "device", "dtype", "main_input_name"})  # what transformers asks a model for


def at_inference(commentaries: Stored, student: nn.Module) -> nn.Module:
    """``student`` behind those commentaries that act at inference too (masks); it itself where there are none.

    No dataset is needed. A student that was trained under masks and is then shown bare pictures is worse than one that
    never saw a mask. Cost: one pass of each mask's network per batch.

    It is called as the student is. What the masks change is the argument that the student's ``main_input_name`` names,
    where it has one and is given that by name, or else the first; all others go through. Without either it is an
    `InputError`. Its masks are copies: ``.to``, ``.half`` and the like convert them together with the student, so
    convert the student before where the masks are to keep their precision; what is stored stays as it is.

    Of a Hugging Face student's attributes ``config``, ``device``, ``dtype`` and ``main_input_name`` are the result's
    too. So a pipeline takes it (and logs that it does not know the class), and so does a ``Trainer`` with
    ``remove_unused_columns=False`` and ``label_names=["labels"]``, which it would otherwise read off the class. Methods
    as ``generate`` are not, since they would go past the masks.
    """
    acting = [one.commentary for one in in_order(commentaries, 0.0) if one.commentary.at_inference]
    return _Seeing(copy.deepcopy(acting), student) if acting else student


class _Seeing(nn.Module):
    """The student on its main input as the commentaries change it; only the student is trained."""

    def __init__(self, commentaries: Sequence[Commentary], student: nn.Module) -> None:
        super().__init__()
        self.commentaries = nn.ModuleList(commentaries)
        self.student = student

    def __getattr__(self, name: str) -> Any:
        return getattr(self.student, name) if name in _TOLD else super().__getattr__(name)

    def forward(self, *given: Any, **named: Any) -> Any:
        """What the student says of the changed inputs."""
        main = getattr(self.student, "main_input_name", None)
        if main in named:
            return self.student(*given, **named | {main: self._seen(named[main])})
        if not given:
            raise InputError(
                f"{', '.join(named) or 'no argument'} given by name, and none of it is known to be what the student "
                "sees: give the pictures as the first argument, without a name"
            )
        return self.student(self._seen(given[0]), *given[1:], **named)

    def _seen(self, inputs: Tensor) -> Tensor:
        batch = Batch(inputs, torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device))
        for commentary in self.commentaries:
            batch = commentary(batch, 1.0)
        return batch.inputs
