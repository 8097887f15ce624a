"""Networks by name, for recipes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from commentary_hub.errors import InputError
from commentary_hub.networks._images import CBR, MLP, ResNet, SmallCNN, UNet
from commentary_hub.networks._texts import CharLM, TextCNN

_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "cbr": CBR,
    "char_lm": CharLM,
    "cnn": SmallCNN,
    "mlp": MLP,
    "resnet18": partial(ResNet, depths=(2, 2, 2, 2)),
    "resnet34": partial(ResNet, depths=(3, 4, 6, 3)),
    "text_cnn": TextCNN,
    "unet": UNet,
}


def network(name: str, **settings: Any) -> nn.Module:
    """A freshly initialised network; raises `InputError` for an unknown name or settings that it does not take.

    >>> network("mlp", inputs=64, hidden=[128], classes=10).layers[1]
    Linear(in_features=64, out_features=128, bias=True)
    """
    if name not in _NETWORKS:
        raise InputError(f"there is no network {name!r}: choose from {', '.join(_NETWORKS)}")
    try:
        return _NETWORKS[name](**settings)
    except (TypeError, ValueError) as error:
        raise InputError(f"network {name!r}: {error}") from None
