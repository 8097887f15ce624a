"""A mask that a network lays over each picture, so that the student sees what matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from commentary_hub.commentaries._base import Batch, Commentary, Stage
from commentary_hub.commentaries._network import Inner
from commentary_hub.errors import InputError, ShapeError

Form = Literal["centre", "map"]


@final
class AttentionMask(Commentary):
    """x̃ = m(x) · x, the same mask [B, 1, H, W] for all channels; acts in training and wherever a student is used.

    A network turns the picture into one map [B, 1, h, w] (``conv_map``, ``unet``, or any that does). ``form`` says how
    the map becomes a mask:

    - ``"centre"``: p = softmax over the map, centre μ = Σ p · position, m = background + exp(−½ Σ_axes (pos − μ)²/σ²).
      ``sigma`` is in pixels, one number or (rows, columns); with ``learn_sigma`` both are learned, from there on.
    - ``"map"``: m = background + sigmoid(map), brought to the picture's size where it is smaller.

    ``background`` is what stays of everything else. ``channels`` are those of the pictures; ``settings`` the rest of
    the network's. Pictures may have any size, or only ``size`` (height, width) where it is given: σ counts pixels and
    the network has learned at one scale. A caller's own module may stand in for the name, see `WeightNetwork`. With
    ``unet`` the setting ``norm="group"`` keeps each mask a function of its own picture. Source: Raghu et al. 2021,
    section 5. Cost: one pass of the network per step, in training and in use.

    >>> attention = AttentionMask(channels=3, sigma=6.0)
    >>> attention.mask(torch.zeros(2, 3, 36, 36)).shape, attention.centre(torch.zeros(2, 3, 36, 36)).shape
    (torch.Size([2, 1, 36, 36]), torch.Size([2, 2]))
    """

    kind: ClassVar[str] = "attention_mask"
    stage: ClassVar[Stage] = Stage.MASK
    at_inference: ClassVar[bool] = True

    def __init__(
        self,
        channels: int,
        network: str | nn.Module = "conv_map",
        *,
        settings: Mapping[str, Any] | None = None,
        form: Form = "centre",
        sigma: float | Sequence[float] = 6.0,
        learn_sigma: bool = False,
        background: float = 0.0,
        size: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if form not in {"centre", "map"}:
            raise InputError(f"form is {form!r}: choose 'centre' or 'map'")
        if not 0 <= background < 1:
            raise InputError(f"background is {background}: give a share from 0 up to, but not, 1")
        self.form: Form = form
        self.channels = channels
        self.background = float(background)
        self.size = None if size is None else _height_and_width(size)
        self._sigma = _pair(sigma)
        self.log_sigma = nn.Parameter(torch.tensor(self._sigma).log()) if learn_sigma and form == "centre" else None
        self._given = dict(settings or {})
        own = {"channels": channels} if isinstance(network, str) else {}
        self.network = Inner(network, self._given | own)

    def forward(self, batch: Batch, progress: Tensor | float) -> Batch:
        """Lay the masks over the batch's inputs [B, C, H, W]."""
        del progress
        return replace(batch, inputs=batch.inputs * self.mask(batch.inputs).to(batch.inputs.dtype))

    def mask(self, inputs: Tensor) -> Tensor:
        """Masks [B, 1, H, W] of pictures [B, C, H, W], in the network's precision.

        Raises `ShapeError` for pictures of another kind.
        """
        inputs = self.network.fitted(inputs)
        if self.form == "map":
            maps = self._map(inputs)
            if maps.shape[2:] != inputs.shape[2:]:
                maps = functional.interpolate(maps, size=inputs.shape[2:], mode="bilinear", align_corners=False)
            return self.background + torch.sigmoid(maps)
        centre, sigma = self.centre(inputs), self.sigma().to(inputs)
        rows, columns = (
            ((_positions(side, side, inputs) - centre[:, axis, None]) / sigma[axis]).square()
            for axis, side in enumerate(inputs.shape[2:])
        )
        return self.background + torch.exp(-0.5 * (rows[:, None, :, None] + columns[:, None, None, :]))

    def centre(self, inputs: Tensor) -> Tensor:
        """Where the network looks: μ [B, 2] (row, column) in pixels of ``inputs``; the map may be coarser."""
        inputs = self.network.fitted(inputs)
        maps = self._map(inputs)
        share = maps.flatten(1).softmax(1).reshape(maps.shape)[:, 0]
        sides = zip(share.shape[1:], inputs.shape[2:], strict=True)
        rows, columns = (_positions(cells, side, inputs) for cells, side in sides)
        return torch.stack([share.sum(2) @ rows, share.sum(1) @ columns], dim=1)

    def sigma(self) -> Tensor:
        """σ [2] in pixels along rows and columns."""
        return torch.tensor(self._sigma) if self.log_sigma is None else self.log_sigma.exp()

    def config(self) -> dict[str, Any]:
        """The network's name and settings, and how its map becomes a mask."""
        return {
            "channels": self.channels,
            "network": self.network.name,
            "settings": self._given,
            "form": self.form,
            "sigma": list(self._sigma),
            "learn_sigma": self.log_sigma is not None,
            "background": self.background,
            "size": None if self.size is None else list(self.size),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AttentionMask:
        """Build it anew from the registry of networks."""
        return cls(**config)

    @property
    def value_range(self) -> tuple[float, float]:
        """Masks lie between the background and one more."""
        return (self.background, self.background + 1.0)

    def _map(self, inputs: Tensor) -> Tensor:
        if inputs.dim() != 4 or inputs.shape[1] != self.channels or not inputs.is_floating_point():
            raise ShapeError(
                f"inputs are {list(inputs.shape)} of {inputs.dtype}: this mask takes float pictures "
                f"[B, {self.channels}, H, W]",
                tensor="inputs",
                shape=tuple(inputs.shape),
            )
        if self.size is not None and tuple(inputs.shape[2:]) != self.size:
            raise ShapeError(
                f"pictures are {list(inputs.shape[2:])}, this mask was learned on {list(self.size)}: resize them",
                tensor="inputs",
                shape=tuple(inputs.shape),
            )
        maps: Tensor = self.network(inputs)
        if maps.dim() != 4 or maps.shape[:2] != (len(inputs), 1):
            raise ShapeError(
                f"the mask's network returned {list(maps.shape)}, expected one map [{len(inputs)}, 1, h, w]",
                tensor="map",
                shape=tuple(maps.shape),
            )
        return maps


def _positions(cells: int, side: int, like: Tensor) -> Tensor:
    """Where the middles of ``cells`` equal cells lie along ``side`` pixels: 0 … side − 1 for one cell per pixel."""
    return (torch.arange(cells, dtype=like.dtype, device=like.device) + 0.5) * (side / cells) - 0.5


def _height_and_width(size: Sequence[int]) -> tuple[int, int]:
    height, width = size
    return int(height), int(width)


def _pair(sigma: float | Sequence[float]) -> tuple[float, float]:
    pair = (float(sigma), float(sigma)) if isinstance(sigma, int | float) else tuple(float(one) for one in sigma)
    if len(pair) != 2 or not min(pair) > 0:
        raise InputError(f"sigma is {sigma}: give one positive number of pixels, or two (rows, columns)")
    return pair
