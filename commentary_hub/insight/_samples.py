"""A sheet of samples: what the hub's page of a commentary shows on either side of a threshold."""

from __future__ import annotations

import io
import json

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.nn import functional

from commentary_hub.data import Examples
from commentary_hub.insight._canvas import short
from commentary_hub.insight._labels import label_words
from commentary_hub.insight._thumbnails import displayed

COLUMNS, ROWS = 16, 4
KEYWORD = "commentary-samples"
"""The name of the PNG text chunk: JSON of ``columns``, ``rows`` and ``samples``, [content key, weight, label] each."""
_SIDE, _SMALLEST = 32, 20
_LABEL_LIMIT = 40
_SHADES = 96  # a palette keeps the sheet of a colour dataset below 80 kB


def samples(examples: Examples, weights: NDArray[np.float64]) -> tuple[bytes, str]:
    """64 pictures at even steps of their rank by ``weights`` [N] (none NaN), lowest first, with an alternative text.

    Tiles are squares of equal size; what each shows stands in the PNG itself, so that a reader needs no dataset.
    """
    count = min(COLUMNS * ROWS, len(weights))
    ranks = np.linspace(0, len(weights) - 1, count).round().astype(np.int64)
    chosen = np.ascontiguousarray(np.argsort(weights, kind="stable")[ranks])
    part = examples.subset(chosen)
    described = {
        "columns": COLUMNS,
        "rows": -(-count // COLUMNS),
        "samples": [
            [bytes(key).hex(), round(float(weight), 6), short(label_words(target, part.classes), _LABEL_LIMIT)]
            for key, weight, target in zip(part.keys, weights[chosen], part.targets, strict=True)
        ],
    }
    info = PngInfo()
    info.add_text(KEYWORD, json.dumps(described))
    buffer = io.BytesIO()
    _sheet(part.inputs).save(buffer, "PNG", pnginfo=info, optimize=True)
    low, high = weights[chosen[0]], weights[chosen[-1]]
    return buffer.getvalue(), f"{count} examples from the lowest weight, {low:.2f}, to the highest, {high:.2f}."


def _sheet(pictures: Tensor) -> Image.Image:
    """Tiles of 20 to 32 pixels a side or a little more, row by row, on black."""
    scale = _SIDE / max(*pictures.shape[2:], _SIDE)
    if scale < 1:
        size = [max(1, round(side * scale)) for side in pictures.shape[2:]]
        pictures = functional.interpolate(pictures.float(), size=size, mode="area")
    shown = (displayed(pictures) * 255).round().astype(np.uint8)
    larger = -(-_SMALLEST // max(shown.shape[1:3]))
    shown = shown.repeat(larger, axis=1).repeat(larger, axis=2)
    side = max(shown.shape[1:3])
    sheet = np.zeros((-(-len(shown) // COLUMNS) * side, COLUMNS * side, 3), np.uint8)
    top, left = (side - shown.shape[1]) // 2, (side - shown.shape[2]) // 2
    for at, tile in enumerate(shown):
        row, column = (at // COLUMNS) * side + top, (at % COLUMNS) * side + left
        sheet[row : row + tile.shape[0], column : column + tile.shape[1]] = tile
    picture = Image.fromarray(sheet)
    return picture.convert("L") if pictures.shape[1] != 3 else picture.quantize(_SHADES)
