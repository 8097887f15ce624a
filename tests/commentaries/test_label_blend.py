"""Blends: the ratio of every pair of labels, mixup's loss, and partners that follow the step."""

import pytest
import torch
from torch.nn import functional

from commentary_hub.commentaries import Batch, LabelBlend, commented_loss
from commentary_hub.errors import InputError, LabelError


def blend(classes=3):
    one = LabelBlend(classes)
    with torch.no_grad():
        one.logits.copy_(torch.linspace(-3, 3, classes**2).reshape(classes, classes))
    return one


def batch(size=8, seed=5):
    return Batch(torch.eye(size), torch.arange(size) % 3, seed=seed)


def test_ratios_are_the_papers():
    fresh = LabelBlend(4)
    assert fresh.logits.shape == (4, 4)
    assert fresh.ratios().unique().item() == pytest.approx(1 - 0.5 / (1 + 2.718281828**1))
    table = blend().ratios()
    assert table[0, 2] == pytest.approx(1 - 0.5 * torch.sigmoid(torch.tensor(-1.5)).item())
    assert bool(((table > 0.5) & (table < 1)).all())


def test_each_example_keeps_the_share_of_its_pair_of_labels():
    one, before = blend().requires_grad_(False), batch()
    after = one(before, 0.0)
    for row, mixed in enumerate(after.inputs):
        ratio = one.ratios()[before.targets[row], after.blend.targets[row]]
        assert after.blend.ratio[row] == pytest.approx(ratio.item())
        assert mixed.sum().item() == pytest.approx(1.0)
        partner = int((1 - torch.eye(8)[row]).mul(mixed).argmax())
        if mixed[row] < 1:  # else it was its own partner
            assert mixed[row] == pytest.approx(ratio.item())
            assert before.targets[partner] == after.blend.targets[row]
    assert sorted(after.blend.targets.tolist()) == sorted(before.targets.tolist())  # a permutation


def test_partners_follow_the_seed_of_the_step():
    one = blend()
    assert torch.equal(one(batch(seed=3), 0.0).inputs, one(batch(seed=3), 0.9).inputs)
    assert not torch.equal(one(batch(seed=3), 0.0).inputs, one(batch(seed=4), 0.0).inputs)


def test_the_loss_is_mixups_and_partners_bring_their_weights():
    one, weights = blend(), torch.linspace(0.1, 0.8, 8)
    after = one(batch().weighted(weights), 0.0)
    outputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    ratio, other = after.blend.ratio, after.blend.targets
    own = functional.cross_entropy(outputs, after.targets, reduction="none")
    partner = functional.cross_entropy(outputs, other, reduction="none")
    plain = one(batch(), 0.0)
    expected = (ratio * own + (1 - ratio) * partner).mean()
    torch.testing.assert_close(commented_loss(outputs, plain, reduction="mean"), expected)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(5))
    assert torch.equal(after.blend.weights, weights[order])
    expected = (ratio * weights * own + (1 - ratio) * weights[order] * partner).mean()
    torch.testing.assert_close(commented_loss(outputs, after, reduction="mean"), expected)


@pytest.mark.parametrize("classes", [1, 2, 100])
def test_any_number_of_classes(classes):
    one = LabelBlend(classes)
    after = one(Batch(torch.rand(6, 2, 3, 3), torch.arange(6) % classes), 0.0)
    assert after.inputs.shape == (6, 2, 3, 3)
    again = LabelBlend.from_config(one.config())
    again.load_state_dict(one.state_dict())
    assert torch.equal(again.ratios(), one.ratios())


def test_what_cannot_be_blended_is_named():
    one = blend()
    with pytest.raises(LabelError, match="there are 3 classes"):
        one(Batch(torch.rand(2, 2), torch.tensor([0, 3])), 0.0)
    with pytest.raises(LabelError, match="class indices"):
        one(Batch(torch.rand(2, 2), torch.rand(2)), 0.0)
    with pytest.raises(InputError, match="texts after embedding"):
        one(Batch(torch.zeros(2, 2, dtype=torch.int64), torch.tensor([0, 1])), 0.0)
    with pytest.raises(InputError, match="one blend at a time"):
        one(one(batch(), 0.0), 0.0)
    with pytest.raises(InputError, match="at least one"):
        LabelBlend(0)
