"""Which columns of a table are the example and its target: told by type first, by name second, and never guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from commentary_hub.data._keys import Form
from commentary_hub.errors import InputError

ROW = "commentary_row"  # the column that a binding adds: no part of an example
_TARGET_NAMES = ("label", "labels", "target", "targets", "class", "y")
_IMAGE_NAMES = ("image", "img", "picture", "pixel_values")
_TEXT_NAMES = ("text", "sentence", "content", "document", "review")
_BESIDE_TEXTS = frozenset({  # what tables of texts have besides, and no property of an example
    "id", "idx", "index", "__index_level_0__", "unnamed: 0", "input_ids", "attention_mask", "token_type_ids",
})  # fmt: skip
_INPUT_NAMES = (*_IMAGE_NAMES, *_TEXT_NAMES, "inputs", "input", "x", "data", "features")
_NUMBERS = ("int", "uint", "float", "bool")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that hold an example: one, or several of single numbers that together are a row of float64.

    ``dtype`` is that of a column of numeric rows, as the dataset declares it (``None`` for the other forms).
    """

    inputs: tuple[str, ...]
    target: str | None
    form: Form
    classes: tuple[str, ...] | None
    dtype: str | None = None

    def values(self, batch: Mapping[str, Any]) -> list[Any]:
        """The examples of a batch of columns; what is missing is NaN among numbers, else ``None``."""
        if self.dtype is not None:
            return [_row(cell, self.dtype) for cell in batch[self.inputs[0]]]
        if self.form != "numeric":
            return list(batch[self.inputs[0]])
        return list(np.stack([np.asarray(batch[name], dtype=np.float64) for name in self.inputs], axis=1))


def find_columns(features: datasets.Features, *, inputs: str | None = None, targets: str | None = None) -> Columns:
    """The columns of a Hugging Face dataset; raises `InputError` naming the candidates where there is a choice."""
    for name in (inputs, targets):
        if name is not None and name not in features:
            raise InputError(f"no column {name!r}: the dataset has {_listed(features)}", column=name)
    target = targets if targets is not None else _target_column(features)
    rest = {name: feature for name, feature in features.items() if name not in {target, ROW}}
    chosen = (inputs,) if inputs is not None else _input_columns(rest)
    feature = features[chosen[0]]
    label = features[target] if target is not None else None
    return Columns(
        inputs=chosen,
        target=target,
        form=_form(feature, chosen[0]),
        classes=tuple(label.names) if isinstance(label, datasets.ClassLabel) else None,
        dtype=_element_dtype(feature) if _kind(feature) == "array" else None,
    )


def sample_columns(
    sample: Mapping[str, Any], *, inputs: str | None = None, targets: str | None = None
) -> tuple[str, str | None]:
    """The names under which a dictionary sample holds the example and its target."""
    for name in (inputs, targets):
        if name is not None and name not in sample:
            raise InputError(f"no entry {name!r}: a sample has {_listed(sample)}", column=name)
    target = targets if targets is not None else _one_named(sample, _TARGET_NAMES)
    rest = [name for name in sample if name not in {target, ROW}]
    found = inputs or _one_named(rest, _INPUT_NAMES) or (rest[0] if len(rest) == 1 else None)
    if found is None:
        raise InputError(f"which entry is the example? A sample has {_listed(sample)}: name it (inputs=)")
    return found, target


def pick(sample: Any, names: tuple[str, str | None] | None) -> tuple[Any, Any]:
    """The raw (value, target) of one sample: a dictionary by ``names``, else the first two of a tuple or list."""
    if names is not None:
        lacking = [name for name in names if name is not None and name not in sample]
        if lacking:
            raise InputError(f"a sample has {_listed(sample)} and no {lacking[0]!r}: give all samples the same entries")
        return sample[names[0]], (sample[names[1]] if names[1] is not None else None)
    if isinstance(sample, (tuple, list)) and len(sample) >= 2:
        return sample[0], sample[1]
    if isinstance(sample, (Image.Image, str, np.ndarray, torch.Tensor)):
        return sample, None
    raise InputError(
        f"a sample is of type {type(sample).__name__}: expected (example, target), a dictionary, or a single example"
    )


def _target_column(features: Mapping[str, Any]) -> str | None:
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    named = _one_named(features, _TARGET_NAMES)
    if len(labels) == 1:
        return labels[0]
    if named is not None:
        return named
    if labels:
        raise InputError(f"which column is the target? Candidates are {_listed(labels)}: name it (targets=)")
    return None


def _input_columns(features: Mapping[str, Any]) -> tuple[str, ...]:
    for kind, names in (("image", _IMAGE_NAMES), ("text", _TEXT_NAMES)):
        found = [name for name, feature in features.items() if _kind(feature) == kind]
        named = _one_named(found, names)
        if kind == "text" and len(found) == 1 and named is None:
            _check_alone(found[0], features)
        if len(found) == 1 or named is not None:
            return (named or found[0],)
        if found:
            raise InputError(f"which {kind} column is the example? There are {_listed(found)}: name it (inputs=)")
    arrays = [name for name, feature in features.items() if _kind(feature) == "array"]
    if len(arrays) == 1:
        return (arrays[0],)
    numbers = tuple(name for name, feature in features.items() if _kind(feature) == "number")
    if "input_ids" in arrays:
        raise InputError(
            f"no column looks like an example among {_listed(features)}, which a tokeniser made: bind the dataset "
            "before it is tokenised, then train on binding.dataset.map(…) under that binding"
        )
    if arrays or not numbers:
        raise InputError(f"no column looks like an example among {_listed(features)}: name it (inputs=)")
    return numbers


def _check_alone(text: str, features: Mapping[str, Any]) -> None:
    """A text column of no telling name may be one more property of what the numbers beside it describe."""
    kinds = {name: _kind(feature) for name, feature in features.items() if name.lower() not in _BESIDE_TEXTS}
    numbers = [name for name, kind in kinds.items() if kind in {"number", "array"}]
    if numbers and not set(re.split("[^a-z]", text.lower())) & set(_TEXT_NAMES):
        raise InputError(
            f"which is the example, the text {text!r} or the numbers {_listed(numbers)}? Name one column (inputs=), or "
            f"drop {text!r} to take the numbers"
        )


def _row(cell: Any, dtype: str) -> NDArray[Any] | None:
    try:
        return None if cell is None else np.asarray(cell, dtype=dtype)
    except TypeError:  # a missing whole number, which has no NaN to stand for it
        return None


def _kind(feature: Any) -> str | None:
    if isinstance(feature, datasets.Image):
        return "image"
    if isinstance(feature, datasets.Value):
        if feature.dtype in {"string", "large_string"}:
            return "text"
        return "number" if feature.dtype.startswith(_NUMBERS) else None
    if isinstance(feature, (datasets.Array2D, datasets.Array3D, datasets.Array4D, datasets.List)):
        return "array"
    return None


def _form(feature: Any, name: str) -> Form:
    kind = _kind(feature)
    if kind in {"image", "text"}:
        return "image" if kind == "image" else "text"
    if kind is None:
        raise InputError(f"column {name!r} holds {feature}: neither image, text nor numbers", column=name)
    return "numeric"


def _element_dtype(feature: Any) -> str:
    while isinstance(feature, datasets.List):
        feature = feature.feature
    dtype = str(getattr(feature, "dtype", ""))
    if not dtype.startswith(_NUMBERS):
        raise InputError(f"a column of lists of {feature} has no numbers: flatten or drop it")
    return dtype


def _one_named(names: Sequence[str] | Mapping[str, Any], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
