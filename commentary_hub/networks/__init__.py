"""Plain architectures, for students and inside commentaries; any other ``nn.Module`` serves as well."""

from commentary_hub.networks._images import CBR, MLP, ResNet, SmallCNN, UNet
from commentary_hub.networks._registry import network
from commentary_hub.networks._texts import CharLM, TextCNN

__all__ = ["CBR", "MLP", "CharLM", "ResNet", "SmallCNN", "TextCNN", "UNet", "network"]
