"""Pictures with one object that matters among surroundings that do not, and where it is.

Both datasets are functions of their source and a seed. Each has two configurations, row by row of the same object at
the same place: ``plain`` and ``swapped``, which differ in the surroundings. Columns: ``image`` (PNG), ``label``,
``row`` and ``column`` (the middle of the object, in pixels).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from commentary_hub.data import open_examples

DIGITS, SURROUNDED = "commentary-hub/coloured-digits", "commentary-hub/surrounded-cifar10"
CONFIGS = ("plain", "swapped")
DIGITS_SIDE, SURROUNDED_SIDE = 36, 40
_SHRUNK = 14  # a digit of 28 × 28, averaged over 2 × 2
_COLOURS = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1]], np.float32)  # yellow, magenta, white: all of them contain red
_OBJECT = 20

Pictures = NDArray[np.float32]
Places = NDArray[np.int64]


def coloured_digits(folder: Path, *, size: int = 4500, seed: int = 0) -> None:
    """One red MNIST digit, whose class is the label, and a distractor of another colour; they never overlap."""
    rng = np.random.default_rng(seed)
    source = open_examples("ylecun/mnist", split="train", limit=3 * size)
    halves = source.inputs[:, 0].numpy().reshape(-1, _SHRUNK, 2, _SHRUNK, 2).mean((2, 4))
    labels = source.targets[:size].numpy()
    places = np.stack([_outside(rng) for _ in range(size)])
    for number, config in enumerate(CONFIGS, 1):
        pictures = np.zeros((size, 3, DIGITS_SIDE, DIGITS_SIDE), np.float32)
        colours = _COLOURS[rng.integers(len(_COLOURS), size=size)]
        for row in range(size):
            other = _apart(places[row], rng)
            _put(pictures[row], halves[row], np.array([1, 0, 0], np.float32), places[row])
            _put(pictures[row], halves[number * size + row], colours[row], other)
        middles = places + (_SHRUNK - 1) / 2
        _write(folder / config, pictures, labels, middles, [str(digit) for digit in range(10)])


def surrounded_cifar10(folder: Path, *, size: int = 5500, seed: int = 0) -> None:
    """A CIFAR-10 picture, shrunk, at a random place of another one that is enlarged: a blurred, foreign surrounding."""
    rng = np.random.default_rng(seed)
    source = open_examples("uoft-cs/cifar10", split="train", limit=3 * size)
    places = rng.integers(0, SURROUNDED_SIDE - _OBJECT + 1, (size, 2))
    labels = source.targets[:size].numpy()
    objects = _resized(source.inputs[:size].numpy(), _OBJECT)
    for number, config in enumerate(CONFIGS, 1):
        own = slice(number * size, (number + 1) * size)
        pictures = _resized(source.inputs[own].numpy(), SURROUNDED_SIDE)
        for row, (top, left) in enumerate(places):
            pictures[row, :, top : top + _OBJECT, left : left + _OBJECT] = objects[row]
        middles = places + (_OBJECT - 1) / 2
        _write(folder / config, pictures, labels, middles, list(source.classes or ()))


BUILDERS: dict[str, Callable[[Path], None]] = {DIGITS: coloured_digits, SURROUNDED: surrounded_cifar10}


def _outside(rng: np.random.Generator) -> NDArray[np.int64]:
    """A place that leaves room for a second digit."""
    last = DIGITS_SIDE - _SHRUNK
    while True:
        place: NDArray[np.int64] = rng.integers(0, last + 1, 2)
        if place.max() >= _SHRUNK or place.min() <= last - _SHRUNK:
            return place


def _apart(place: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A second place that leaves the first free."""
    while True:
        other: NDArray[np.int64] = rng.integers(0, DIGITS_SIDE - _SHRUNK + 1, 2)
        if np.abs(other - place).max() >= _SHRUNK:
            return other


def _put(picture: Pictures, shape: Pictures, colour: Pictures, place: NDArray[np.int64]) -> None:
    top, left = place
    picture[:, top : top + _SHRUNK, left : left + _SHRUNK] += colour[:, None, None] * shape


def _resized(pictures: Pictures, side: int) -> Pictures:
    resized = [
        np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
        for picture in _bytes(pictures)
    ]
    return np.stack(resized).transpose(0, 3, 1, 2)


def _bytes(pictures: Pictures) -> NDArray[np.uint8]:
    return (pictures.clip(0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


def _write(folder: Path, pictures: Pictures, labels: Places, middles: NDArray[np.float64], names: list[str]) -> None:
    folder.mkdir()
    images = []
    for picture in _bytes(pictures):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": None})
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=names),
            "row": datasets.Value("float32"),
            "column": datasets.Value("float32"),
        }
    )
    columns = {"image": images, "label": labels.tolist(), "row": middles[:, 0], "column": middles[:, 1]}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(folder / "train.parquet"))
