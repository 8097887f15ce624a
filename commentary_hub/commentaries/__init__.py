"""What is learned: one kind of commentary per file, each an ``nn.Module`` that changes a training step."""

from commentary_hub.commentaries._attention_mask import AttentionMask
from commentary_hub.commentaries._base import (
    Batch,
    Blend,
    Commentary,
    Reduction,
    Stage,
    check_labels,
    commented_loss,
    compose,
)
from commentary_hub.commentaries._criteria import (
    Criterion,
    binary_cross_entropy,
    causal_cross_entropy,
    cross_entropy,
    squared_error,
    token_cross_entropy,
)
from commentary_hub.commentaries._example_weights import ExampleWeights
from commentary_hub.commentaries._label_blend import LabelBlend
from commentary_hub.commentaries._mixture_weights import MixtureWeights
from commentary_hub.commentaries._registry import kind_class, register
from commentary_hub.commentaries._support_weights import SupportWeights
from commentary_hub.commentaries._weight_network import WeightNetwork

__all__ = [
    "AttentionMask",
    "Batch",
    "Blend",
    "Commentary",
    "Criterion",
    "ExampleWeights",
    "LabelBlend",
    "MixtureWeights",
    "Reduction",
    "Stage",
    "SupportWeights",
    "WeightNetwork",
    "binary_cross_entropy",
    "causal_cross_entropy",
    "check_labels",
    "commented_loss",
    "compose",
    "cross_entropy",
    "kind_class",
    "register",
    "squared_error",
    "token_cross_entropy",
]
