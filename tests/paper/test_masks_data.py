"""The derived pictures hold their object where they say, and swapping changes nothing but its surroundings."""

import numpy as np
import pytest

from benchmarks.paper.masks import data as derived
from commentary_hub.data import Examples, content_keys, open_examples

SIZE = 12


@pytest.fixture
def source(monkeypatch):
    import torch

    def opened(name, *, split, limit):
        side, channels = (28, 1) if "mnist" in name else (32, 3)
        inputs = torch.rand(limit, channels, side, side, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1
        return Examples.of(
            inputs, torch.arange(limit) % 10, keys=content_keys(inputs.numpy()), classes=[str(n) for n in range(10)]
        )

    monkeypatch.setattr(derived, "open_examples", opened)


def columns(folder):
    import datasets

    table = datasets.load_dataset(str(folder), split="train")
    return np.stack([np.asarray(image) for image in table["image"]]), table["row"], table["column"], table["label"]


@pytest.mark.parametrize(("build", "side"), [(derived.coloured_digits, 14), (derived.surrounded_cifar10, 20)])
def test_objects_stay_and_surroundings_change(tmp_path, source, build, side):
    build(tmp_path, size=SIZE)
    (plain, rows, lefts, labels), (swapped, *others) = (columns(tmp_path / config) for config in derived.CONFIGS)
    assert [rows, lefts, labels] == others
    assert labels == [n % 10 for n in range(SIZE)]
    for number in range(SIZE):
        top, left = (int(middle[number] - (side - 1) / 2) for middle in (rows, lefts))
        window = np.s_[number, top : top + side, left : left + side]
        assert np.array_equal(plain[window], swapped[window])
        outside = plain[number] != swapped[number]
        assert outside.any()
        if side == 14:  # the object is red, and nothing else stands in its place
            assert (plain[window][..., 0] > 0).all()
            assert (plain[window][..., 1:] == 0).all()
    (tmp_path / "again").mkdir()
    build(tmp_path / "again", size=SIZE)
    assert np.array_equal(columns(tmp_path / "again" / "plain")[0], plain)


def test_derived_datasets_are_opened_by_their_names(tmp_path, source, monkeypatch):
    folder = tmp_path / derived.DIGITS
    folder.mkdir(parents=True)
    derived.coloured_digits(folder, size=SIZE)
    monkeypatch.setenv("COMMENTARY_HUB_DATASETS", str(tmp_path))
    for config in derived.CONFIGS:
        examples = open_examples(derived.DIGITS, config=config, inputs="image", targets="label")
        assert examples.inputs.shape == (SIZE, 3, 36, 36)
        assert examples.class_count == 10
