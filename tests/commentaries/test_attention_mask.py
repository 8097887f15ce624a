"""Masks: where the network looks, the shape of what it lets through, any size of picture."""

import math

import pytest
import torch
from torch import nn

from commentary_hub.commentaries import AttentionMask, Batch
from commentary_hub.errors import InputError, ShapeError


class Map(nn.Module):
    """A given map for every picture."""

    def __init__(self, scores):
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, inputs):
        return self.scores.expand(len(inputs), 1, *self.scores.shape)


def peaked(height, width, row, column):
    scores = torch.full((height, width), -1e4)
    scores[row, column] = 1e4
    return Map(scores)


def test_the_mask_is_a_bell_around_the_centre():
    attention = AttentionMask(3, peaked(9, 12, 4, 7), sigma=(2.0, 3.0), background=0.1)
    pictures = torch.rand(2, 3, 9, 12)
    assert attention.centre(pictures).tolist() == [[4.0, 7.0], [4.0, 7.0]]
    mask = attention.mask(pictures)
    for row in range(9):
        for column in range(12):
            expected = 0.1 + math.exp(-((row - 4) ** 2) / 8 - (column - 7) ** 2 / 18)
            assert mask[1, 0, row, column].item() == pytest.approx(expected, abs=1e-6)
    after = attention(Batch(pictures, torch.zeros(2, dtype=torch.int64)), 0.3)
    assert torch.equal(after.inputs, pictures * mask)


def test_the_centre_is_the_expected_place():
    scores = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    attention = AttentionMask(1, Map(scores))
    row, column = attention.centre(torch.rand(1, 1, 2, 2))[0].tolist()
    assert (row, column) == (pytest.approx(1 / 3), pytest.approx(4 / 6))


def test_a_coarse_map_speaks_of_the_pictures_pixels():
    attention = AttentionMask(1, peaked(3, 3, 2, 0))
    assert attention.centre(torch.rand(1, 1, 9, 12))[0].tolist() == [7.0, 1.5]  # the middles of 6…8 and 0…3
    network = AttentionMask(1, settings={"layers": 0, "kernel": 1, "pool": 2})
    with torch.no_grad():
        network.network.module.layers[0].weight.fill_(1e4)
    picture = torch.zeros(1, 1, 8, 8)
    picture[0, 0, 4:6, 2:4] = 1.0
    torch.testing.assert_close(network.centre(picture), torch.tensor([[4.5, 2.5]]))


def test_a_map_becomes_a_mask_by_itself():
    scores = torch.tensor([[0.0, 2.0], [-2.0, 5.0]])
    attention = AttentionMask(1, Map(scores), form="map", background=0.25)
    assert torch.equal(attention.mask(torch.rand(1, 1, 2, 2))[0, 0], 0.25 + torch.sigmoid(scores))
    wide = attention.mask(torch.rand(1, 1, 6, 6))
    assert wide.shape == (1, 1, 6, 6)
    assert wide[0, 0, 0, 0].item() == pytest.approx(0.75)


@pytest.mark.parametrize("form", ["centre", "map"])
@pytest.mark.parametrize(
    ("network", "settings"),
    [("conv_map", {"width": 4}), ("unet", {"width": 4, "norm": "group"}), ("unet", {"width": 4, "depth": 1})],
)
@pytest.mark.parametrize("size", [(36, 36), (17, 23)])
def test_networks_of_the_registry_take_any_size(form, network, settings, size):
    torch.manual_seed(0)
    attention = AttentionMask(3, network, settings=settings, form=form)
    mask = attention.mask(torch.rand(2, 3, *size))
    assert mask.shape == (2, 1, *size)
    mask.sum().backward()
    assert sum(float(p.grad.abs().sum()) for p in attention.parameters()) > 0
    again = AttentionMask.from_config(attention.config())
    again.load_state_dict(attention.state_dict())
    pictures = torch.rand(2, 3, *size)
    assert torch.equal(again.mask(pictures), attention.mask(pictures))


@pytest.mark.parametrize(("network", "settings"), [("conv_map", {}), ("unet", {"norm": "group"})])
def test_without_batch_norm_a_picture_has_its_own_mask(network, settings):
    torch.manual_seed(0)
    attention, pictures = AttentionMask(3, network, settings=settings), torch.rand(4, 3, 20, 20)
    torch.testing.assert_close(attention.mask(pictures)[2:3], attention.mask(pictures[2:3]))


def test_both_widths_can_be_learned():
    attention = AttentionMask(1, peaked(8, 8, 3, 3), sigma=(2.0, 4.0), learn_sigma=True)
    pictures = torch.rand(1, 1, 8, 8)
    fixed = AttentionMask(1, peaked(8, 8, 3, 3), sigma=(2.0, 4.0))
    torch.testing.assert_close(attention.mask(pictures), fixed.mask(pictures))
    attention.mask(pictures).sum().backward()
    assert bool((attention.log_sigma.grad > 0).all())
    assert fixed.log_sigma is None
    named = AttentionMask(1, sigma=3, learn_sigma=True)
    with torch.no_grad():
        named.log_sigma.fill_(0.5)
    again = AttentionMask.from_config(named.config())
    again.load_state_dict(named.state_dict())
    assert torch.equal(again.mask(pictures), named.mask(pictures))


def test_what_does_not_fit_is_named():
    attention = AttentionMask(3, size=(20, 20))
    with pytest.raises(ShapeError, match=r"float pictures \[B, 3, H, W\]"):
        attention.mask(torch.rand(2, 1, 20, 20))
    with pytest.raises(ShapeError, match="float pictures"):
        attention.mask(torch.zeros(2, 3, 20, 20, dtype=torch.uint8))
    with pytest.raises(ShapeError, match=r"\[24, 20\], this mask was learned on \[20, 20\]"):
        attention.mask(torch.rand(2, 3, 24, 20))
    with pytest.raises(ShapeError, match="expected one map"):
        AttentionMask(3, nn.Conv2d(3, 2, 1)).mask(torch.rand(2, 3, 8, 8))
    for settings, words in [
        ({"sigma": 0.0}, "positive number"),
        ({"sigma": (1.0, 2.0, 3.0)}, "or two"),
        ({"background": 1.0}, "background is"),
        ({"form": "window"}, "choose 'centre'"),
        ({"settings": {"kernel": 4}}, "odd kernel"),
    ]:
        with pytest.raises(InputError, match=words):
            AttentionMask(3, **settings)
