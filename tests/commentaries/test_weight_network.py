"""Weights by a network: what it is fed, what it says, and what it refuses."""

import pytest
import torch
from torch import nn

from commentary_hub.commentaries import Batch, WeightNetwork
from commentary_hub.errors import InputError, LabelError, ShapeError
from commentary_hub.networks import register_network

MLP = {"inputs": 6, "hidden": [5]}


def vectors(size=4):
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.randn(size, 6, generator=generator), torch.arange(size) % 3)


def by_hand(network, features):
    first, last = network.network.module.layers[1], network.network.module.layers[3]
    hidden = (features @ first.weight.T + first.bias).clamp_min(0)
    return hidden @ last.weight.T + last.bias


def test_features_and_age_become_one_weight():
    torch.manual_seed(0)
    weights, batch = WeightNetwork("mlp", settings=MLP), vectors()
    features = torch.cat([batch.inputs, torch.full((4, 1), 0.25)], dim=1)
    expected = torch.sigmoid(by_hand(weights, features)[:, 0])
    torch.testing.assert_close(weights(batch, 0.25).weights, expected)


def test_the_age_is_held_at_one():
    torch.manual_seed(0)
    weights, batch = WeightNetwork("mlp", settings=MLP), vectors()
    assert torch.equal(weights(batch, 2.6).weights, weights(batch, 1.0).weights)
    assert not torch.equal(weights(batch, 0.5).weights, weights(batch, 1.0).weights)
    still = WeightNetwork("mlp", settings=MLP, progress=False)
    assert torch.equal(still(batch, 0.5).weights, still(batch, 1.0).weights)


def test_labels_choose_the_output_or_are_features():
    torch.manual_seed(0)
    batch = vectors()
    index = WeightNetwork("mlp", settings=MLP, labels="index", classes=3, progress=False)
    outputs = by_hand(index, batch.inputs)
    expected = torch.sigmoid(torch.stack([outputs[row, label] for row, label in enumerate(batch.targets)]))
    torch.testing.assert_close(index(batch, 0.0).weights, expected)
    fed = WeightNetwork("mlp", settings=MLP, labels="input", classes=3)
    features = torch.cat([batch.inputs, torch.full((4, 1), 0.5), torch.eye(3)[batch.targets]], dim=1)
    torch.testing.assert_close(fed(batch, 0.5).weights, torch.sigmoid(by_hand(fed, features)[:, 0]))


def test_the_papers_trunk_sees_the_age_as_a_channel():
    torch.manual_seed(0)
    weights = WeightNetwork("cbr", settings={"channels": 3, "size": [28, 28], "width": 4})
    trunk = weights.network.module
    assert trunk.blocks[0].in_channels == 4
    assert trunk.head.out_features == 1
    batch = Batch(torch.rand(5, 3, 28, 28), torch.zeros(5, dtype=torch.int64))
    seen = torch.cat([batch.inputs, torch.full((5, 1, 28, 28), 0.75)], dim=1)
    torch.testing.assert_close(weights(batch, 0.75).weights, trunk(seen).sigmoid()[:, 0])


def test_weights_multiply_those_that_are_there():
    torch.manual_seed(0)
    weights, batch = WeightNetwork("mlp", settings=MLP), vectors()
    own = weights(batch, 0.0).weights
    again = weights(batch.weighted(torch.full((4,), 0.5)), 0.0).weights
    torch.testing.assert_close(again, 0.5 * own)


def test_normalisation_keeps_nothing_and_is_the_same_in_reuse():
    torch.manual_seed(0)
    weights = WeightNetwork("cbr", settings={"channels": 1, "size": [28, 28], "width": 4})
    before = {name: tensor.clone() for name, tensor in weights.state_dict().items()}
    batch = Batch(torch.rand(5, 1, 28, 28), torch.zeros(5, dtype=torch.int64))
    learning = weights.train()(batch, 0.0).weights
    assert torch.equal(weights.eval()(batch, 0.0).weights, learning)
    assert before.keys() == weights.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in weights.state_dict().items())


def test_text_is_weighed_by_its_label_and_has_no_room_for_age():
    ids = Batch(torch.randint(1, 20, (4, 9)), torch.tensor([0, 1, 0, 1]))
    settings = {"vocabulary": 20, "width": 4}
    weights = WeightNetwork("text_cnn", settings=settings, labels="index", classes=2, progress=False)
    assert weights(ids, 0.0).weights.shape == (4,)
    with pytest.raises(ShapeError, match="progress=False"):
        WeightNetwork("text_cnn", settings=settings)(ids, 0.0)


def test_what_does_not_fit_is_named():
    weights = WeightNetwork("mlp", settings=MLP, labels="index", classes=3)
    with pytest.raises(LabelError, match="there are 3 classes"):
        weights(Batch(torch.zeros(2, 6), torch.tensor([0, 3])), 0.0)
    with pytest.raises(ShapeError, match=r"cannot take inputs \[2, 9\]"):
        weights(Batch(torch.zeros(2, 8), torch.tensor([0, 1])), 0.0)
    with pytest.raises(ShapeError, match=r"returned \[2, 4\], expected \[2, 1\]"):
        WeightNetwork(nn.Linear(7, 4))(Batch(torch.zeros(2, 6), torch.tensor([0, 1])), 0.0)
    with pytest.raises(ShapeError, match="one number per example"):
        Batch(torch.zeros(2, 6), torch.tensor([0, 1])).weighted(torch.zeros(2, 1))
    with pytest.raises(InputError, match="do not go together"):
        WeightNetwork("mlp", settings=MLP, labels="index")
    with pytest.raises(InputError, match="choose 'none'"):
        WeightNetwork("mlp", settings=MLP, labels="onehot", classes=3)
    with pytest.raises(InputError, match="no network 'vit'"):
        WeightNetwork("vit")


class Distance(nn.Module):
    """A caller's architecture."""

    def __init__(self, inputs, classes):
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(inputs))
        self.scale = nn.Parameter(torch.ones(classes))

    def forward(self, inputs):
        return -(inputs - self.centre).square().sum(1, keepdim=True) * self.scale


def test_a_module_of_ones_own_is_storable_once_it_has_a_name():
    own, batch = WeightNetwork(Distance(7, 1)), vectors()
    with torch.no_grad():
        own.network.module.centre.normal_()
    with pytest.raises(InputError, match=r"register_network\(name, Distance\)"):
        own.config()
    register_network("test_distance", Distance)
    named = WeightNetwork("test_distance", settings={"inputs": 6})
    named.load_state_dict(own.state_dict())
    again = WeightNetwork.from_config(named.config())
    again.load_state_dict(named.state_dict())
    assert torch.equal(again(batch, 0.5).weights, own(batch, 0.5).weights)
    with pytest.raises(ValueError, match="is taken"):
        register_network("test_distance", nn.Linear)
