"""Commentary Hub: learn, share and reuse commentaries.

A commentary is learned meta-information t(x, y, i; φ) that helps to train models on a dataset. This front door is
lazy: importing it loads no torch, and each name brings its room with it when it is first used.

>>> import commentary_hub
>>> commentary_hub.Reference.parse("ada/digits-weights").repo_id
'ada/digits-weights'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from commentary_hub.commentaries import (
        AttentionMask,
        ExampleWeights,
        LabelBlend,
        MixtureWeights,
        SupportWeights,
        WeightNetwork,
    )
    from commentary_hub.data import open_examples, split_examples
    from commentary_hub.errors import CommentaryHubError
    from commentary_hub.hub import find, pull, push
    from commentary_hub.learning import (
        SGD,
        Adam,
        AdamW,
        ConjugateGradient,
        Implicit,
        Neumann,
        Student,
        Unrolled,
        learn,
    )
    from commentary_hub.manifest import Reference
    from commentary_hub.recipes import evaluate, save, verify
    from commentary_hub.reuse import bind, bind_stream, load

# The whole front door: name → the room that it opens.
_ROOMS = {
    "Adam": "learning",
    "AdamW": "learning",
    "AttentionMask": "commentaries",
    "CommentaryHubError": "errors",
    "ConjugateGradient": "learning",
    "ExampleWeights": "commentaries",
    "Implicit": "learning",
    "LabelBlend": "commentaries",
    "MixtureWeights": "commentaries",
    "Neumann": "learning",
    "Reference": "manifest",
    "SGD": "learning",
    "Student": "learning",
    "SupportWeights": "commentaries",
    "Unrolled": "learning",
    "WeightNetwork": "commentaries",
    "bind": "reuse",
    "bind_stream": "reuse",
    "evaluate": "recipes",
    "find": "hub",
    "learn": "learning",
    "load": "reuse",
    "open_examples": "data",
    "pull": "hub",
    "push": "hub",
    "save": "recipes",
    "split_examples": "data",
    "verify": "recipes",
}

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "AttentionMask",
    "CommentaryHubError",
    "ConjugateGradient",
    "ExampleWeights",
    "Implicit",
    "LabelBlend",
    "MixtureWeights",
    "Neumann",
    "Reference",
    "Student",
    "SupportWeights",
    "Unrolled",
    "WeightNetwork",
    "bind",
    "bind_stream",
    "evaluate",
    "find",
    "learn",
    "load",
    "open_examples",
    "pull",
    "push",
    "save",
    "split_examples",
    "verify",
]


def __getattr__(name: str) -> Any:
    try:
        room = _ROOMS[name]
    except KeyError:
        raise AttributeError(f"module 'commentary_hub' has no attribute {name!r}") from None
    try:
        value = getattr(importlib.import_module(f"commentary_hub.{room}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "commentary_hub":
            raise
        from commentary_hub.errors import MissingExtra  # noqa: PLC0415 - only on this path

        raise MissingExtra(
            f"commentary_hub.{name} needs {error.name}: pip install 'commentary-hub[learn]'", name=error.name
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
