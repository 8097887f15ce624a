"""Augmentation as a function of a seed, so that a step can be replayed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def crop_and_flip(inputs: Tensor, seed: int, *, padding: int = 4) -> Tensor:
    """The usual augmentation of small pictures [B, C, H, W]: random crops and mirrors.

    Each is shifted by up to ``padding`` pixels (zeros come in from the border) and mirrored half of the time. The same
    seed gives the same pictures.

    >>> pictures = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> torch.equal(crop_and_flip(pictures, 3, padding=1), crop_and_flip(pictures, 3, padding=1))
    True
    """
    generator = torch.Generator().manual_seed(seed)
    size, height, width = len(inputs), *inputs.shape[-2:]
    down, right = torch.randint(0, 2 * padding + 1, (2, size), generator=generator)
    mirrored = torch.rand(size, generator=generator) < 0.5
    rows = down[:, None] + torch.arange(height)
    columns = right[:, None] + torch.arange(width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    padded = functional.pad(inputs, (padding,) * 4)
    picture = torch.arange(size)[:, None, None]
    places = (one.to(inputs.device) for one in (picture, rows[:, :, None], columns[:, None, :]))
    at, row, column = places
    return padded[at, :, row, column].permute(0, 3, 1, 2)
