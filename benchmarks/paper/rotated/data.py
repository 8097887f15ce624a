"""Rotated MNIST: one digit, turned to the left or to the right; the class is the direction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Picture
from torch import Tensor

from commentary_hub.data import Examples, open_examples

NAME = "commentary-hub/rotated-mnist"
DIGIT = 3
RANGES = {"apart": (15.0, 45.0), "overlapping": (-5.0, 30.0)}
"""Degrees to the class's own side: class 1 is turned by U(range), class 0 by −U(range)."""


def build(folder: Path) -> None:
    """``<config>/train-00000-of-00001.parquet`` with columns image, label, angle, for both configurations."""
    pictures = chosen(open_examples("ylecun/mnist"))
    for number, (config, (low, high)) in enumerate(RANGES.items()):
        rng = np.random.default_rng(number)
        labels = rng.permutation(np.arange(len(pictures)) % 2)
        angles = rng.uniform(low, high, len(pictures)) * np.where(labels == 1, 1, -1)
        turned = [
            Picture.fromarray((picture[0] * 255).round().byte().numpy()).rotate(angle, Picture.Resampling.BILINEAR)
            for picture, angle in zip(pictures, angles.tolist(), strict=True)
        ]
        features = Features({"image": Image(), "label": ClassLabel(names=["left", "right"]), "angle": Value("float64")})
        table = Dataset.from_dict({"image": turned, "label": labels, "angle": angles}, features=features)
        (folder / config).mkdir()
        table.to_parquet(folder / config / "train-00000-of-00001.parquet")


def chosen(digits: Examples) -> Tensor:
    """The pictures of the digit that is turned."""
    return digits.inputs[digits.targets == DIGIT]


def angles_by_key(place: Path, config: str) -> dict[bytes, float]:
    """The angle of every example, by its content key."""
    path = place / config / "train-00000-of-00001.parquet"
    examples = open_examples(path, inputs="image", targets="label")
    angles = Dataset.from_parquet(str(path))["angle"]
    return {bytes(key): float(angle) for key, angle in zip(examples.keys, angles, strict=True)}
