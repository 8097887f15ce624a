"""Support weights: a function of an example and its company, blind to which class is which."""

import math

import pytest
import torch
from torch.nn import functional

from commentary_hub import artefact
from commentary_hub.commentaries import Batch, SupportWeights
from commentary_hub.errors import InputError, ShapeError
from commentary_hub.manifest import DatasetBinding, DatasetIdentity, KeyScheme

SETTINGS = {"inputs": 3, "hidden": [5], "classes": 4, "smooth": True}


def weights(seed=0):
    torch.manual_seed(seed)
    return SupportWeights("mlp", SETTINGS, hidden=6).double()


def support(labels, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.randn(len(labels), 3, generator=generator, dtype=torch.float64), torch.tensor(labels))


@torch.no_grad()
def by_hand(one, batch, progress):
    """The definition, example by example."""
    raw = one.encoder(batch.inputs)
    embedded = [functional.normalize(e - raw.mean(0), dim=0) for e in raw]
    labels, found = batch.targets.tolist(), []
    for i, e in enumerate(embedded):
        cosines = {
            label: [float(e @ other) for j, other in enumerate(embedded) if j != i and labels[j] == label]
            for label in set(labels)
        }
        peers = cosines.pop(labels[i])
        own = sum(peers) / len(peers) if peers else 0.0
        means = [sum(values) / len(values) for values in cosines.values()]
        other = math.log(sum(math.exp(10 * mean) for mean in means)) / 10 if means else 0.0
        features = torch.tensor([own, other, float(not peers), progress], dtype=torch.float64)
        found.append(one.score(features).exp())
    return len(found) * torch.cat(found) / torch.cat(found).sum()


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [0, 1, 2], [2, 0, 0, 2, 4, 0], [1, 1, 1], [-1, 10**9, -1]])
def test_weights_by_hand(labels):
    one, batch = weights(), support(labels)
    assert torch.allclose(one(batch, 0.5).weights, by_hand(one, batch, 0.5), rtol=1e-12, atol=0)


def test_which_class_is_which_changes_nothing():
    one, batch = weights(), support([0, 0, 1, 1, 2, 2])
    renamed = Batch(batch.inputs, torch.tensor([5, 5, 0, 0, 3, 3]))
    assert torch.allclose(one(batch, 0.0).weights, one(renamed, 0.0).weights)
    order = torch.tensor([4, 2, 0, 5, 3, 1])
    moved = Batch(batch.inputs[order], batch.targets[order])
    assert torch.allclose(one(batch, 0.0).weights[order], one(moved, 0.0).weights)


def test_a_wrong_label_changes_the_weight_of_its_example():
    one = weights()
    right, wrong = one(support([0, 0, 1, 1]), 0.0).weights, one(support([0, 1, 1, 1]), 0.0).weights
    assert not torch.isclose(right[1], wrong[1])


def test_an_artefact_keeps_the_function(tmp_path):
    one = weights().float()
    binding = DatasetBinding(
        identity=DatasetIdentity(id="alphabets"), fingerprint="0" * 32, rows=12, validation_rows=1,
        key=KeyScheme(form="none"), classes=None,
    )  # fmt: skip
    artefact.save(tmp_path / "s", one, name="support", dataset=binding, loss_reduction="weight_mean")
    read = artefact.load(tmp_path / "s").commentary
    batch = support([0, 0, 1, 1])
    batch = Batch(batch.inputs.float(), batch.targets)
    assert isinstance(read, SupportWeights)
    assert torch.equal(read(batch, 0.3).weights, one(batch, 0.3).weights)


def test_mistakes_are_named():
    with pytest.raises(InputError, match="no network 'conv5'"):
        SupportWeights("conv5", SETTINGS)
    with pytest.raises(ShapeError, match=r"it must return \[S, D\]"):
        SupportWeights("conv_map", {"channels": 1})(Batch(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1])), 0.0)
    with pytest.raises(ShapeError, match=r"one label per example"):
        weights()(Batch(torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.int64)), 0.0)
