"""The library's own kinds meet the controls of their stage; masks train jointly with students, many at once."""

import pytest
import torch
from torch import nn

from commentary_hub.commentaries import AttentionMask, LabelBlend, WeightNetwork
from commentary_hub.evidence import example_weights
from commentary_hub.evidence._arms import Lessons
from commentary_hub.evidence._train import stackable
from tests.evidence.problem import CLASSES
from tests.evidence.test_kinds import by_name, free_trial, lesson, pictures

PARTS = pictures(60, 0), pictures(20, 1), pictures(20, 2)


def test_a_learned_blend_loses_its_labels_when_shuffled(tmp_path):
    blend = LabelBlend(CLASSES)
    with torch.no_grad():
        blend.logits.copy_(torch.linspace(-3, 3, CLASSES**2).reshape(CLASSES, CLASSES))
    arms = by_name(free_trial(tmp_path, blend))
    assert list(arms) == ["commentary", "none", "shuffled", "random", "mixup"]
    of = {name: arms[name].change.__self__.commentaries[0].ratios() for name in ("commentary", "shuffled", "random")}
    assert torch.equal(of["commentary"], blend.ratios())
    assert torch.equal(of["shuffled"].flatten().sort().values, of["commentary"].flatten().sort().values)
    assert not torch.equal(of["shuffled"], of["commentary"])
    assert set(of["random"].flatten().tolist()) < set(of["commentary"].flatten().tolist())
    own, none = lesson(arms["commentary"]), lesson(arms["none"])
    assert own.inputs.shape == none.inputs.shape
    torch.testing.assert_close(own.targets.sum(-1), torch.ones(2, 32))
    assert bool(((own.targets > 0).sum(-1) <= 2).all())


@pytest.mark.parametrize(("progress", "stages"), [(True, 16), (False, 1)])
def test_weight_networks_are_weighed_over_training(tmp_path, progress, stages):
    torch.manual_seed(0)
    settings = {"inputs": 8, "hidden": [4]}
    network = WeightNetwork("mlp", settings=settings, labels="index", classes=CLASSES, progress=progress)
    one = free_trial(tmp_path, network)
    weights = example_weights(one.stored, one.train)
    assert weights.shape == (stages, 120)
    shuffled = by_name(one)["shuffled"].weights
    torch.testing.assert_close(shuffled.sort(1).values, by_name(one)["commentary"].weights.sort(1).values)


@pytest.mark.parametrize("form", ["centre", "map"])
def test_masks_have_all_their_arms_and_joint_training_is_batched(tmp_path, form):
    torch.manual_seed(0)
    settings = {"width": 2, "kernel": 3, "pool": 1}
    mask = AttentionMask(1, settings=settings, form=form, sigma=2.0, learn_sigma=form == "centre")
    one = free_trial(tmp_path, mask, PARTS)
    arms = by_name(one)
    assert list(arms) == ["commentary", "none", "shuffled", "random", "fixed", "joint"]
    inputs = one.test.inputs
    torch.testing.assert_close(arms["commentary"].seen(inputs), (inputs * mask.mask(inputs)).detach())
    joint = arms["joint"].wrap(nn.Sequential(nn.Flatten(), nn.Linear(48, CLASSES)))
    lessons = Lessons(arms["joint"], (0,), classes=CLASSES, steps=2, batch_size=8, device=torch.device("cpu"))
    assert stackable(joint, lessons(0))
    joint(inputs).sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in joint.commentary.parameters() if p.dim())
    fresh = dict(joint.commentary.named_parameters())
    assert any(not torch.equal(p, fresh[name]) for name, p in mask.named_parameters())
