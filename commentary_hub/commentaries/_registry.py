"""Which kinds exist: an explicit table, to which a user adds a kind of their own by calling `register`.

Nothing is ever imported because an artefact names it.
"""

from __future__ import annotations

from typing import TypeVar

from commentary_hub.commentaries._attention_mask import AttentionMask
from commentary_hub.commentaries._base import Commentary
from commentary_hub.commentaries._example_weights import ExampleWeights
from commentary_hub.commentaries._label_blend import LabelBlend
from commentary_hub.commentaries._mixture_weights import MixtureWeights
from commentary_hub.commentaries._support_weights import SupportWeights
from commentary_hub.commentaries._weight_network import WeightNetwork
from commentary_hub.errors import UnknownKind

_KINDS: dict[str, type[Commentary]] = {
    AttentionMask.kind: AttentionMask,
    ExampleWeights.kind: ExampleWeights,
    LabelBlend.kind: LabelBlend,
    MixtureWeights.kind: MixtureWeights,
    SupportWeights.kind: SupportWeights,
    WeightNetwork.kind: WeightNetwork,
}

AnyCommentary = TypeVar("AnyCommentary", bound=Commentary)


def register(cls: type[AnyCommentary]) -> type[AnyCommentary]:
    """Make a kind known by its ``kind`` name; usable as a decorator. A taken name is a `ValueError`."""
    known = _KINDS.get(cls.kind)
    if known is not None and known is not cls:
        raise ValueError(f"kind {cls.kind!r} is taken by {known.__name__}: choose another name")
    _KINDS[cls.kind] = cls
    return cls


def kind_class(kind: str) -> type[Commentary]:
    """The class of a kind; raises `UnknownKind` listing what is known."""
    try:
        return _KINDS[kind]
    except KeyError:
        raise UnknownKind(
            f"no commentary kind {kind!r} is registered (known: {', '.join(sorted(_KINDS))}): "
            "import the package that defines it, which calls commentary_hub.commentaries.register",
            kind=kind,
        ) from None
