"""Arms for attention masks: a mask is a function of the picture, so it is applied in training and in testing alike."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from commentary_hub.commentaries import Batch, Commentary
from commentary_hub.data import Examples
from commentary_hub.errors import EvidenceError
from commentary_hub.evidence._arms import COMMENTARY, Arm

_CHUNK = 512


@runtime_checkable
class Masking(Protocol):
    """What a commentary of stage MASK offers beside its step: the masks by themselves."""

    def mask(self, inputs: Tensor) -> Tensor:
        """Masks [B, 1, H, W] that multiply pictures [B, C, H, W]."""
        ...


def mask_arms(
    commentary: Commentary, examples: Examples, plain: Sequence[Arm], *, competitors: bool, seed: int
) -> tuple[Arm, ...]:
    """The commentary's masks, the ``plain`` arms, and masks that know less.

    ``shuffled``: every picture under the mask of another one; ``random``: under that of a picture drawn with
    replacement from the training set, the same distribution of masks. Competitors: ``fixed`` (the picture-independent
    mask that is nearest to the learned ones: their mean over the training set) and ``joint`` (the same mask network,
    freshly initialised, trained together with the student on the student's loss).
    """
    if not isinstance(commentary, Masking):
        raise EvidenceError(
            f"commentaries of kind {commentary.kind!r} do not show their masks: give the kind a method "
            "mask(inputs) -> [B, 1, H, W]"
        )
    masks = _in_parts(commentary.mask, examples.inputs)
    found = [
        Arm(COMMENTARY, examples, sees=_forward(commentary), role="commentary", note="pictures under their masks"),
        *plain,
        Arm("shuffled", examples, sees=_others(commentary, seed), note="pictures under the masks of other pictures"),
        Arm("random", examples, sees=_drawn(masks, seed), note="pictures under masks of random training pictures"),
    ]
    if competitors:
        mean = masks.mean(0, keepdim=True)
        fixed = Arm("fixed", examples, sees=lambda inputs: inputs * mean, role="competitor", note="the mean mask")
        joint = Arm("joint", examples, wrap=_jointly(commentary), role="competitor", note="mask and student together")
        found += [fixed, joint]
    return tuple(found)


class _Joint(nn.Module):
    """A mask network and a student as one module."""

    def __init__(self, commentary: Commentary, student: nn.Module) -> None:
        super().__init__()
        self.student = student
        self.commentary = commentary

    def forward(self, inputs: Tensor) -> Tensor:
        targets = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
        outputs: Tensor = self.student(self.commentary(Batch(inputs, targets), 1.0).inputs)
        return outputs


def _jointly(commentary: Commentary) -> Callable[[nn.Module], nn.Module]:
    def wrap(student: nn.Module) -> nn.Module:
        return _Joint(type(commentary).from_config(copy.deepcopy(commentary.config())).requires_grad_(), student)

    return wrap


def _forward(commentary: Commentary) -> Callable[[Tensor], Tensor]:
    def masked(inputs: Tensor) -> Tensor:
        batch: Batch = commentary(Batch(inputs, torch.zeros(len(inputs), dtype=torch.int64)), 1.0)
        return batch.inputs

    return lambda inputs: _in_parts(masked, inputs)


def _others(commentary: Masking, seed: int) -> Callable[[Tensor], Tensor]:
    def masked(inputs: Tensor) -> Tensor:
        own = _in_parts(commentary.mask, inputs)
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
        shifted = torch.empty_like(order)
        shifted[order] = order.roll(1)  # one cycle through all pictures: nobody keeps their own mask
        return inputs * own[shifted]

    return masked


def _drawn(masks: Tensor, seed: int) -> Callable[[Tensor], Tensor]:
    def masked(inputs: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed + len(inputs))
        return inputs * masks[torch.randint(len(masks), (len(inputs),), generator=generator)]

    return masked


@torch.no_grad()
def _in_parts(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    return torch.cat([function(part) for part in torch.split(inputs, _CHUNK)])
