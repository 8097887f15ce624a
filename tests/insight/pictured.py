"""Stored commentaries on scikit-learn's digits, and what is asked of every picture: shared by the tests of insight."""

import io

import torch
from PIL import Image

from commentary_hub.artefact import Rows, load, save
from commentary_hub.data import corrupt_labels, open_examples
from commentary_hub.manifest import DatasetBinding, DatasetIdentity, KeyScheme


def digits(count=300):
    """Digits with half of their labels wrong, and which those are."""
    return corrupt_labels(open_examples("sklearn:digits", limit=count), 0.5, noise="pairwise", seed=0)


def stored(folder, commentary, *, examples=None, classes=None, **options):
    """Any commentary, saved and loaded again; ``examples`` whose rows its table holds."""
    binding = DatasetBinding(
        identity=DatasetIdentity(id="sklearn:digits"),
        rows=0 if examples is None else len(examples),
        key=KeyScheme(form="none" if examples is None else "numeric"),
        classes=classes,
    )
    rows = None if examples is None else Rows(examples.keys, examples.target_digests)
    save(folder, commentary, name="digits", dataset=binding, loss_reduction="mean", rows=rows, **options)
    return load(folder)


def check_picture(content, *, alt=None, width=1200):
    """A PNG of a card's size, with ink on white paper that stays off the edges; returned as [H, W, 3] in 0 … 255."""
    picture = Image.open(io.BytesIO(content))
    assert picture.format == "PNG"
    assert picture.width == width
    assert 300 <= picture.height <= 2400
    assert 3_000 < len(content) < 500_000
    pixels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
    pixels = pixels.reshape(picture.height, picture.width, 3).int()
    edges = torch.cat([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert bool((edges == 255).all()), "something is cut off at an edge"
    if alt is not None:
        assert alt.endswith(".")
        assert alt.count(". ") == 0
        assert 30 < len(alt) < 250
        assert "nan" not in alt
    return pixels
