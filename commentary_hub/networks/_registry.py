"""Networks by name, for recipes and for commentaries that hold a network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from commentary_hub.errors import InputError
from commentary_hub.networks._images import CBR, MLP, Conv4, ConvMap, ResNet, SmallCNN, UNet
from commentary_hub.networks._texts import CharLM, TextCNN

_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "cbr": CBR,
    "char_lm": CharLM,
    "cnn": SmallCNN,
    "conv4": Conv4,
    "conv_map": ConvMap,
    "mlp": MLP,
    "resnet18": partial(ResNet, depths=(2, 2, 2, 2)),
    "resnet34": partial(ResNet, depths=(3, 4, 6, 3)),
    "text_cnn": TextCNN,
    "unet": UNet,
}


def register_network(name: str, build: Callable[..., nn.Module]) -> None:
    """Make an architecture of your own known by ``name``: recipes and artefacts that name it are then understood.

    ``build`` takes settings that JSON can hold and returns a freshly initialised module. Whoever loads an artefact
    that names it registers it first; nothing is imported because an artefact names it. A taken name is a `ValueError`.
    """
    if _NETWORKS.get(name, build) is not build:
        raise ValueError(f"network {name!r} is taken: choose another name")
    _NETWORKS[name] = build


def network(name: str, **settings: Any) -> nn.Module:
    """A freshly initialised network; raises `InputError` for an unknown name or settings that it does not take.

    >>> network("mlp", inputs=64, hidden=[128], classes=10).layers[1]
    Linear(in_features=64, out_features=128, bias=True)
    """
    if name not in _NETWORKS:
        raise InputError(
            f"there is no network {name!r}: choose from {', '.join(_NETWORKS)}, or register it with "
            "commentary_hub.networks.register_network"
        )
    try:
        return _NETWORKS[name](**settings)
    except (TypeError, ValueError, RuntimeError) as error:  # torch has RuntimeError for negative and huge sizes
        raise InputError(f"network {name!r}: {error}") from None
