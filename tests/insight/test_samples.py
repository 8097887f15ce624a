"""The sheet of samples says of itself what the hub's pages need, and shows it where it says."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from commentary_hub.data import Examples
from commentary_hub.insight._samples import KEYWORD, samples
from commentary_hub_server.rules.catalogue import read_sample_sheet


class Shelf:
    """One file."""

    def __init__(self, content):
        self.content = content

    def read(self, repo_id, revision, path, start, length):
        assert path == "plots/samples.png"
        return self.content[start : start + length]


class Commentary:
    """At the root of its repository."""

    repo_id, revision, prefix = "ada/x", "0" * 40, ""


def examples(count, channels=1, side=8, classes=None):
    shades = torch.linspace(0, 1, count).reshape(-1, 1, 1, 1).expand(-1, channels, side, side)
    keys = np.frombuffer(b"".join(at.to_bytes(16, "big") for at in range(count)), np.uint8).reshape(-1, 16)
    return Examples.of(shades.clone(), torch.arange(count) % 10, keys=keys, classes=classes)


@pytest.mark.parametrize(
    ("count", "channels", "side"), [(300, 1, 8), (300, 3, 32), (64, 3, 96), (5, 1, 28), (20, 2, 7)]
)
def test_what_is_written_is_read_back_and_each_tile_shows_its_example(count, channels, side):
    one = examples(count, channels, side)
    weights = np.random.default_rng(0).permutation(count) / count
    content, alt = samples(one, weights)
    assert len(content) < 80_000
    sheet = read_sample_sheet(Shelf(content), Commentary())
    shown = min(64, count)
    assert len(sheet.samples) == shown
    assert alt.startswith(f"{shown} examples from the lowest weight, {weights.min():.2f}")
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    tile = picture.shape[1] // sheet.columns
    assert picture.shape == (sheet.rows * tile, sheet.columns * tile, 3)
    for sample in sheet.samples:
        row = int(sample.key, 16)
        assert sample.weight == pytest.approx(weights[row], abs=1e-6)
        assert sample.label == str(row % 10)
        middle = picture[sample.tile // 16 * tile + tile // 2, sample.tile % 16 * tile + tile // 2]
        assert abs(int(middle[0]) - 255 * row / (count - 1)) < 4
    below, above = sheet.beside(0.5, 6)
    assert all(sample.weight < 0.5 for sample in below)
    assert all(sample.weight >= 0.5 for sample in above)


def test_samples_lie_at_even_ranks_from_the_lowest_to_the_highest():
    weights = np.linspace(0, 1, 1000) ** 3
    content, _ = samples(examples(1000), weights)
    described = json.loads(Image.open(io.BytesIO(content)).text[KEYWORD])
    ranks = [int(key, 16) for key, *_ in described["samples"]]
    assert (ranks[0], ranks[-1], len(ranks)) == (0, 999, 64)
    assert set(np.diff(ranks)) <= {15, 16}


def test_names_of_any_script_are_kept():
    one = examples(20, classes=("猫", "dog", *"abcdefgh"))
    content, _ = samples(one, np.arange(20) / 20)
    described = json.loads(Image.open(io.BytesIO(content)).text[KEYWORD])
    assert {label for *_, label in described["samples"]} == {"猫", "dog", *"abcdefgh"}
