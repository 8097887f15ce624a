"""Plain architectures, for students and inside commentaries; any other ``nn.Module`` serves as well."""

from commentary_hub.networks._images import CBR, MLP, Conv4, ConvMap, ResNet, SmallCNN, UNet
from commentary_hub.networks._registry import network, register_network
from commentary_hub.networks._texts import CharLM, TextCNN

__all__ = [
    "CBR",
    "MLP",
    "CharLM",
    "Conv4",
    "ConvMap",
    "ResNet",
    "SmallCNN",
    "TextCNN",
    "UNet",
    "network",
    "register_network",
]
