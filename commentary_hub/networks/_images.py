"""Networks for pictures. All are stateless functions of parameters and buffers under `torch.func.functional_call`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


def _at_most(limit: int, name: str, value: int) -> None:
    """Settings may come from a stranger's artefact: what is built must stay within reason."""
    if value > limit:
        raise ValueError(f"{value:,} {name} are more than {limit}")


class MLP(nn.Module):
    """Fully connected with ReLU: [B, …] with ``inputs`` numbers each → logits [B, classes].

    ``hidden`` are the widths between, none for a linear model; ``smooth`` has tanh in place of ReLU.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], classes: int, *, smooth: bool = False) -> None:
        super().__init__()
        _at_most(64, "hidden layers", len(hidden))
        widths = (inputs, *hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for width, following in pairwise(widths):
            layers += [nn.Linear(width, following), nn.Tanh() if smooth else nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], classes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.layers(inputs)
        return logits


class CBR(nn.Module):
    """The paper's small student: two convolution, batch norm, ReLU, max-pool blocks and a linear layer.

    Conv(channels, 32, k5, s2, p2), Conv(32, 64, k3, s2, p2), each pooled by 3 with stride 2; pictures are ``size``
    (height, width), at least 13 on each side.
    """

    def __init__(self, channels: int, classes: int, size: Sequence[int] = (32, 32), *, width: int = 32) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            nn.Conv2d(channels, width, 5, stride=2, padding=2), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=2), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.MaxPool2d(3, 2), nn.Flatten(),
        )  # fmt: skip
        features = 2 * width * _after_cbr(size[0]) * _after_cbr(size[1])
        if features <= 0:
            raise ValueError(f"pictures of {tuple(size)} are too small for CBR: it needs at least 13 by 13")
        self.head = nn.Linear(features, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [B, classes] of pictures [B, channels, H, W]."""
        logits: Tensor = self.head(self.blocks(_channels_last(inputs)))
        return logits


def _channels_last(pictures: Tensor) -> Tensor:
    """The same [B, channels, H, W] with the channels side by side in memory: on a CPU pooling is ten times as fast."""
    if pictures.device.type != "cpu":
        return pictures
    return pictures.movedim(1, -1).contiguous().movedim(-1, 1)  # `contiguous(memory_format=…)` is unknown to vmap


def _after_cbr(side: int) -> int:
    for kernel, padding in ((5, 2), (3, 2)):
        side = (side + 2 * padding - kernel) // 2 + 1
        side = (side - 3) // 2 + 1
    return side


class SmallCNN(nn.Module):
    """Two 3×3 convolutions with batch norm and ReLU, means over the picture's quarters, a linear layer: from 2×2 on."""

    def __init__(self, channels: int, classes: int, *, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, classes),
        )  # fmt: skip

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [B, classes] of pictures [B, channels, H, W]."""
        logits: Tensor = self.layers(inputs)
        return logits


class Conv4(nn.Module):
    """The few-shot field's student: four 3×3 convolutions of stride 2 with batch norm and ReLU, a mean over the map.

    As in Finn et al. 2017 for Omniglot, strides stand in place of pooling; pictures of any size from 2×2. Batch norm
    takes its statistics from the batch at hand, always: the network has no state, and in a small batch every answer
    depends on the others. The linear layer is ``head``, which ANIL adapts alone.
    """

    def __init__(self, channels: int, classes: int, *, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (channels, width, width, width):
            layers += [
                nn.Conv2d(inputs, width, 3, stride=2, padding=1),
                nn.BatchNorm2d(width, track_running_stats=False),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [B, classes] of pictures [B, channels, H, W]."""
        logits: Tensor = self.head(self.features(inputs))
        return logits


class _ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = functional.relu(self.first_norm(self.first(inputs)))
        return functional.relu(self.second_norm(self.second(hidden)) + self.shortcut(inputs))


class ResNet(nn.Module):
    """He et al.'s residual network as it is used on 32×32 pictures: a 3×3 stem, no first pooling.

    ``depths`` (2, 2, 2, 2) is ResNet-18, (3, 4, 6, 3) ResNet-34; ``width`` 64 is the usual one.
    """

    def __init__(self, channels: int, classes: int, *, depths: Sequence[int] = (2, 2, 2, 2), width: int = 64) -> None:
        super().__init__()
        _at_most(512, "blocks", sum(depths))
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        ]  # fmt: skip
        inputs = width
        for stage, depth in enumerate(depths):
            outputs = width * 2**stage
            for block in range(depth):
                layers.append(_ResidualBlock(inputs, outputs, 2 if stage and not block else 1))
                inputs = outputs
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [B, classes] of pictures [B, channels, H, W]."""
        logits: Tensor = self.layers(inputs)
        return logits


class UNet(nn.Module):
    """A U-Net: [B, channels, H, W] → one map [B, outputs, H, W] of the same size, for any H and W.

    ``depth`` halvings (at most 8), ``width`` filters at full resolution; the paper's mask network has depth 2, width 8.
    ``norm="batch"`` normalises over the batch, ``"group"`` within each picture, so that its map is its own alone.
    """

    def __init__(
        self,
        channels: int,
        outputs: int = 1,
        *,
        depth: int = 2,
        width: int = 8,
        norm: Literal["batch", "group"] = "batch",
    ) -> None:
        super().__init__()
        if not 0 <= depth <= 8 or norm not in {"batch", "group"}:
            raise ValueError(f"depth is {depth} and norm {norm!r}: give 0 to 8 halvings, and 'batch' or 'group'")
        widths = [width * 2**level for level in range(depth + 1)]
        ways = zip((channels, *widths[:-1]), widths, strict=True)
        self.down = nn.ModuleList(_pair(i, o, norm) for i, o in ways)
        self.up = nn.ModuleList(_pair(below + here, here, norm) for here, below in pairwise(widths))
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """The map."""
        kept: list[Tensor] = []
        hidden = inputs
        for level, block in enumerate(self.down):
            if level:
                hidden = functional.avg_pool2d(hidden, 2, ceil_mode=True)
            hidden = block(hidden)
            kept.append(hidden)
        for level in reversed(range(len(self.up))):
            hidden = functional.interpolate(hidden, size=kept[level].shape[-2:], mode="nearest")
            hidden = self.up[level](torch.cat([hidden, kept[level]], dim=1))
        maps: Tensor = self.head(hidden)
        return maps


def _pair(inputs: int, outputs: int, norm: str) -> nn.Module:
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        normalised = nn.BatchNorm2d(outputs) if norm == "batch" else nn.GroupNorm(1, outputs)
        layers += [nn.Conv2d(width, outputs, 3, padding=1), normalised, nn.ReLU()]
    return nn.Sequential(*layers)


class ConvMap(nn.Module):
    """Plain convolutions to a map: [B, channels, H, W] → [B, outputs, ⌈H/pool⌉, ⌈W/pool⌉], for any H and W.

    The picture is averaged over ``pool`` × ``pool`` cells; ``layers`` (at most 16) convolutions of ``width`` filters
    and one to the map. No normalisation: the map of a picture depends on nothing but the picture.
    """

    def __init__(
        self, channels: int, outputs: int = 1, *, width: int = 16, layers: int = 2, kernel: int = 5, pool: int = 2,
        smooth: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if not 0 <= layers <= 16 or kernel % 2 == 0:
            raise ValueError(f"layers is {layers} and kernel {kernel}: give 0 to 16 layers and an odd kernel")
        self.pool = pool
        parts: list[nn.Module] = []
        for inputs in (channels, *[width] * layers)[:layers]:
            parts += [nn.Conv2d(inputs, width, kernel, padding=kernel // 2), nn.Tanh() if smooth else nn.ReLU()]
        self.layers = nn.Sequential(
            *parts, nn.Conv2d(width if layers else channels, outputs, kernel, padding=kernel // 2)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """The map."""
        maps: Tensor = self.layers(
            functional.avg_pool2d(inputs, self.pool, ceil_mode=True) if self.pool > 1 else inputs
        )
        return maps
