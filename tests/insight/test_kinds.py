"""Blends, masks and weight networks as pictures."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from commentary_hub.commentaries import AttentionMask, Batch, ExampleWeights, LabelBlend, WeightNetwork
from commentary_hub.data import Examples, content_keys, open_examples
from commentary_hub.errors import ShapeError
from commentary_hub.insight import pictures, ranked
from commentary_hub.insight._blends import heat_map
from commentary_hub.insight._canvas import short
from commentary_hub.insight._samples import KEYWORD
from commentary_hub.manifest import Iterations
from tests.insight.pictured import check_picture, stored

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def blend(classes):
    one = LabelBlend(classes)
    with torch.no_grad():
        one.logits.copy_(2 * torch.randn(classes, classes, generator=torch.Generator().manual_seed(0)))
        one.logits.diagonal().add_(3)
    return one


@pytest.mark.parametrize(("classes", "names"), [(1, None), (3, ("a", "b", "c")), (10, NAMES), (100, None)])
def test_a_blend_is_a_heat_map_with_class_names(tmp_path, classes, names):
    one = blend(classes)
    found = pictures(stored(tmp_path, one, classes=names))
    assert list(found) == ["blend.png"]
    content, alt = found["blend.png"]
    check_picture(content, alt=alt)
    ratios = one.ratios()
    assert f"from {ratios.min():.2f} to {ratios.max():.2f}" in alt


def test_shades_of_a_blend_follow_its_ratios():
    flat = check_picture(heat_map(np.full((4, 4), 0.8), None)[0])
    steep = check_picture(heat_map(np.linspace(0.5, 1, 16).reshape(4, 4), None)[0])
    accent = torch.tensor([0x2F, 0x4A, 0x8C])
    strong = [int(((one - accent).abs().sum(2) < 12).sum()) for one in (flat, steep)]
    assert strong[1] > 5 * strong[0]
    with pytest.raises(ShapeError, match="finite numbers"):
        heat_map(np.full((2, 3), 0.8), None)


def digits():
    return open_examples("sklearn:digits", limit=40)


@pytest.mark.parametrize("count", [1, 7, 40])
@pytest.mark.parametrize("form", ["centre", "map"])
def test_masks_are_shown_over_pictures(tmp_path, form, count):
    torch.manual_seed(0)
    attention = AttentionMask(1, form=form, sigma=2.0, background=0.1)
    examples = digits().subset(range(count))
    one = stored(tmp_path, attention)
    assert pictures(one) == {}
    found = pictures(one, examples)
    assert list(found) == ["masks.png"]
    content, alt = found["masks.png"]
    check_picture(content, alt=alt)
    assert alt.startswith(f"{min(count, 12)} pictures")


@pytest.mark.parametrize("progress", [True, False])
def test_a_weight_network_is_shown_by_what_it_says(tmp_path, progress):
    torch.manual_seed(0)
    settings = {"inputs": 64, "hidden": [16]}
    network = WeightNetwork("mlp", settings=settings, labels="index", classes=10, progress=progress)
    one = stored(tmp_path, network, iterations=Iterations(steps=500, batch_size=8))
    assert pictures(one) == {}
    examples = digits()
    found = pictures(one, examples)
    expected = ["weights.png", "curves.png"] if progress else ["weights.png"]
    assert list(found) == [*expected, "highest.png", "lowest.png", "samples.png"]
    del found["samples.png"]
    for content, alt in found.values():
        check_picture(content, alt=alt)
    ages = torch.linspace(0.5, 15.5, 16) / 16 if progress else [0.0]
    batch = Batch(examples.inputs, examples.targets)
    median = torch.stack([network(batch, float(age)).weights.detach() for age in ages]).mean(0).double().quantile(0.5)
    assert f"median is {float(median):.2f}" in found["weights.png"][1]


def test_rows_without_pictures_have_weights_all_the_same(tmp_path):
    torch.manual_seed(0)
    inputs = torch.randn(20, 5)
    examples = Examples.of(inputs, torch.arange(20) % 2, keys=content_keys(inputs.numpy()))
    one = stored(tmp_path, WeightNetwork("mlp", settings={"inputs": 5, "hidden": []}, progress=False))
    assert list(pictures(one, examples)) == ["weights.png"]


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ((torch.arange(60).reshape(20, 3) % 7 < 3).float(), {"0", "0, 1, 2", "0, 1", "none", "1, 2", "2"}),
        (torch.linspace(2.87, 4.77, 20), {f"{2.87 + 0.1 * at:.4g}" for at in range(20)}),
        (torch.full((20, 9), 0.125), {", ".join(["0.125"] * 8) + ", …"}),
        (torch.tensor([[1, 0, -100]] * 20), {"1, 0"}),
        (torch.tensor([[-100, -100]] * 20), {"none"}),
    ],
)
def test_targets_that_are_no_classes_are_said_as_they_are(tmp_path, targets, words):
    pictured = digits().subset(range(20))
    examples = Examples.of(pictured.inputs, targets, keys=pictured.keys)
    table = ExampleWeights(rows=20)
    with torch.no_grad():
        table.logits.copy_(torch.linspace(-2, 2, 20)[:, None])
    one = stored(tmp_path, table, examples=examples)
    highest, lowest = ranked(one, examples, 10)
    assert {found.label for found in highest + lowest} == words
    found = pictures(one, examples)
    check_picture(found["highest.png"][0], alt=found["highest.png"][1])
    described = json.loads(Image.open(io.BytesIO(found["samples.png"][0])).text[KEYWORD])
    assert {label for *_, label in described["samples"]} == {short(word, 40) for word in words}
