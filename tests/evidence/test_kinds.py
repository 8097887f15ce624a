"""Controls of blends and masks are what they claim; competitors get their chance."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from commentary_hub.commentaries import Batch, Blend, Commentary, Stage, register
from commentary_hub.data import Examples, content_keys
from commentary_hub.errors import EvidenceError
from commentary_hub.evidence import (
    Settings,
    Trial,
    _controls,
    arms_of,
    cleanlab_filter,
    evaluate,
    example_weights,
    mixup_arm,
)
from commentary_hub.evidence._arms import Lessons
from tests.evidence.problem import CLASSES, MLP, Student, examples, stored, trial

CPU = torch.device("cpu")


@register
class PairBlend(Commentary):
    """λ = 1 − σ(Φ[y, y']) / 2."""

    kind, stage = "test_pair_blend", Stage.BLEND

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(CLASSES, CLASSES))

    def forward(self, batch, progress):
        other = torch.randperm(len(batch.inputs), generator=torch.Generator().manual_seed(batch.seed))
        ratio = 1 - 0.5 * self.logits[batch.targets, batch.targets[other]].sigmoid()
        mixed = ratio[:, None] * batch.inputs + (1 - ratio[:, None]) * batch.inputs[other]
        return replace(batch, inputs=mixed, blend=Blend(batch.targets[other], ratio))

    def config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()


@register
class LabelWeights(Commentary):
    """w = σ(g(x)[y] + c · progress): a function, not a table."""

    kind, stage = "test_label_weights", Stage.WEIGHT

    def __init__(self, slope=0.0):
        super().__init__()
        self.slope = slope
        self.network = nn.Linear(8, CLASSES)

    def forward(self, batch, progress):
        own = self.network(batch.inputs).gather(1, batch.targets[:, None])[:, 0]
        return batch.weighted((own + self.slope * progress).sigmoid())

    def config(self):
        return {"slope": self.slope}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@register
class WindowMask(Commentary):
    """A soft window at the brightest column of pictures [B, 1, H, W], learned temperature."""

    kind, stage = "test_window_mask", Stage.MASK

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(4.0))

    def mask(self, inputs):
        columns = inputs.mean(dim=(1, 2))
        centre = ((columns * self.temperature).softmax(1) * torch.arange(columns.shape[1])).sum(1)
        distance = torch.arange(columns.shape[1])[None] - centre[:, None]
        return (-(distance**2) / 4).exp()[:, None, None, :].expand(-1, 1, inputs.shape[2], -1)

    def forward(self, batch, progress):
        return replace(batch, inputs=batch.inputs * self.mask(batch.inputs))

    def config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()


def free_trial(folder, commentary, parts=None):
    """A trial of a commentary without a table."""
    one = stored(folder, commentary, loss_reduction="mean")
    train, selection, test = parts or (examples(120, 0), examples(40, 2), examples(80, 3))
    return Trial(one, train, None, selection, test)


def by_name(trial):
    return {arm.name: arm for arm in arms_of(trial, share=0.2)}


def lesson(arm, step=0, seeds=(0, 1)):
    return Lessons(arm, seeds, classes=CLASSES, steps=4, batch_size=32, device=CPU)(step)


def test_blends_are_shuffled_over_class_pairs(tmp_path):
    blend = PairBlend()
    with torch.no_grad():
        blend.logits.copy_(torch.linspace(-3, 3, CLASSES**2).reshape(CLASSES, CLASSES))
    arms = by_name(free_trial(tmp_path, blend))
    assert list(arms) == ["commentary", "none", "shuffled", "random", "mixup"]
    tables = {name: arms[name].change.__self__.commentaries[0].logits.detach() for name in list(arms)[::2][:2]}
    ours, shuffled = tables["commentary"], tables["shuffled"]
    assert torch.equal(ours, blend.logits)
    assert torch.equal(ours.flatten().sort().values, shuffled.flatten().sort().values)
    assert (ours != shuffled).float().mean() > 0.8
    random = arms["random"].change.__self__.commentaries[0].logits.detach()
    assert set(random.flatten().tolist()) <= set(ours.flatten().tolist())
    assert len(set(random.flatten().tolist())) < CLASSES**2


def test_blended_lessons_mix_the_same_partners_in_every_arm(tmp_path):
    arms = by_name(free_trial(tmp_path, PairBlend()))
    one, other = lesson(arms["commentary"]), lesson(arms["shuffled"])
    torch.testing.assert_close(one.inputs, other.inputs)  # all entries are equal here: only the partners could differ
    torch.testing.assert_close(one.targets.sum(-1), torch.ones(2, 32))
    assert torch.equal(one.inputs, lesson(arms["commentary"]).inputs)
    assert not torch.equal(one.inputs[0], one.inputs[1])
    assert not torch.equal(one.inputs, lesson(arms["commentary"], step=1).inputs)


def test_mixup_draws_its_ratios_from_a_beta():
    arm = mixup_arm(examples(120, 0))
    assert [choice.note for choice in arm.choices] == ["α = 0.1", "α = 0.2", "α = 0.4", "α = 1"]
    inputs, targets = torch.eye(8).repeat(4, 1), torch.arange(32) % CLASSES
    rows = torch.arange(32)
    ratios = [float(arm.choices[3].change(inputs, targets, rows, 0.0, seed=seed).blend.ratio[0]) for seed in range(400)]
    assert np.mean(ratios) == pytest.approx(0.5, abs=0.05)
    assert np.var(ratios) == pytest.approx(1 / 12, abs=0.02)
    batch = arm.change(inputs, targets, rows, 0.0, seed=1)
    assert isinstance(batch, Batch)
    torch.testing.assert_close(batch.inputs.sum(1), torch.ones(32))


def test_functions_are_weighed_once_or_in_stages(tmp_path):
    still, moving = free_trial(tmp_path / "a", LabelWeights()), free_trial(tmp_path / "b", LabelWeights(slope=2.0))
    weights = example_weights(still.stored, still.train)
    assert weights.shape == (1, 120)
    own = still.stored.commentary(Batch(still.train.inputs, still.train.targets), 0.0).weights
    torch.testing.assert_close(weights[0], own)
    stages = example_weights(moving.stored, moving.train)
    assert stages.shape == (16, 120)
    assert bool((stages[1:] > stages[:-1]).all())
    arms = by_name(moving)
    shuffled, ours = arms["shuffled"].weights, arms["commentary"].weights
    torch.testing.assert_close(shuffled.sort(1).values, ours.sort(1).values)
    order = (shuffled[0][:, None] - ours[0][None]).abs().argmin(1)
    torch.testing.assert_close(ours[:, order], shuffled)  # one permutation for all stages


class NormalisedWeights(LabelWeights):
    """Weights that no batch of a single example has."""

    kind = "normalised_weights"

    def forward(self, batch, progress):
        moved = nn.functional.batch_norm(batch.inputs, None, None, training=True)
        return batch.weighted(torch.sigmoid(moved[:, 0]))


def test_no_example_is_weighed_alone(monkeypatch):
    monkeypatch.setattr(_controls, "_CHUNK", 8)
    part = examples(17, 0)  # of which one is left over
    weights = _controls._weights_at(NormalisedWeights(), part, None, 0.0)
    assert weights.shape == (17,)


def pictures(count, seed):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % CLASSES
    inputs = 0.1 * torch.rand(count, 1, 6, 8, generator=generator)
    inputs[torch.arange(count), 0, :, 2 * targets] += 1.0
    return Examples.of(inputs, targets, keys=content_keys(inputs.numpy()), classes=tuple("abcd"))


def test_masks_are_applied_in_testing_too_and_controls_know_less(tmp_path):
    parts = pictures(120, 0), pictures(40, 1), pictures(80, 2)
    one = free_trial(tmp_path, WindowMask(), parts)
    arms = by_name(one)
    assert list(arms) == ["commentary", "none", "shuffled", "random", "fixed", "joint"]
    inputs = one.test.inputs
    masks = one.stored.commentary.mask(inputs).detach()
    torch.testing.assert_close(arms["commentary"].seen(inputs), inputs * masks)
    bright = inputs.clamp_min(1e-3)
    found = arms["shuffled"].seen(bright) / bright
    own = one.stored.commentary.mask(bright).detach()
    match = (found[:, None, 0, 0] - own[None, :, 0, 0]).abs().amax(-1).argmin(1)
    assert sorted(match.tolist()) == list(range(80))  # a permutation …
    assert bool((match != torch.arange(80)).all())  # … in which nobody keeps their own
    training = one.stored.commentary.mask(one.train.inputs).detach()
    drawn = arms["random"].seen(bright) / bright
    assert float((drawn[:, None, 0, 0] - training[None, :, 0, 0]).abs().amax(-1).amin(1).max()) < 1e-5
    fixed = arms["fixed"].seen(bright) / bright
    torch.testing.assert_close(fixed, training.mean(0, keepdim=True).expand_as(fixed))
    assert torch.equal(arms["none"].seen(inputs), inputs)
    student = Student("flat", lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, CLASSES)))
    settings = Settings(steps=20, batch_size=16, learning_rates=(0.5,), seeds=3, tuning_seeds=1, points=4)
    evidence = evaluate(one, [student], settings)
    accuracy = {one.control: one.accuracy_mean for one in evidence.measurements}
    assert accuracy["commentary"] > accuracy["shuffled"] + 0.1
    assert accuracy["joint"] > 0.8


def test_jointly_trained_masks_are_fresh_and_learn(tmp_path):
    mask = WindowMask()
    with torch.no_grad():
        mask.temperature.fill_(9.0)
    one = free_trial(tmp_path, mask, (pictures(120, 0), pictures(40, 1), pictures(80, 2)))
    joint = by_name(one)["joint"].wrap(nn.Sequential(nn.Flatten(), nn.Linear(48, CLASSES)))
    assert joint.commentary.temperature.item() == 4.0
    joint(one.train.inputs[:8]).sum().backward()
    assert float(joint.commentary.temperature.grad.abs()) > 0


def test_a_mask_that_cannot_be_seen_is_refused(tmp_path):
    @register
    class Blind(WindowMask):
        kind = "test_blind_mask"
        mask = None

        def forward(self, batch, progress):
            return batch

    one = free_trial(tmp_path, Blind(), (pictures(40, 0), pictures(8, 1), pictures(8, 2)))
    with pytest.raises(EvidenceError, match="do not show their masks"):
        arms_of(one, share=0.2)


def test_cleanlab_finds_mistakes_that_can_be_seen(tmp_path):
    pytest.importorskip("cleanlab")
    one = trial(tmp_path)
    clean = one.train.with_targets(torch.where(one.mistaken, (one.train.targets + 3) % CLASSES, one.train.targets))
    wrong = torch.arange(240) % 6 == 0  # every sixth label: few enough for a filter without a teacher
    noisy = clean.with_targets(torch.where(wrong, (clean.targets + 2) % CLASSES, clean.targets))
    options = {"steps": 40, "batch_size": 32, "learning_rates": [0.02, 0.1], "repeats": 2}
    found = cleanlab_filter(MLP, noisy, one.trusted, one.selection, **options)
    assert found.keep.dtype == torch.bool
    assert found.keep.shape == found.quality.shape == (240,)
    assert float((~found.keep)[wrong].float().mean()) > 0.8
    assert float((~found.keep)[~wrong].float().mean()) < 0.1
    assert float(found.quality[wrong].mean()) < float(found.quality[~wrong].mean()) - 0.4
    again = cleanlab_filter(MLP, noisy, one.trusted, one.selection, **options)
    assert torch.equal(again.keep, found.keep)
    with pytest.raises(EvidenceError, match="all training labels are the same"):
        cleanlab_filter(MLP, noisy.with_targets(torch.ones_like(noisy.targets)), None, one.selection, **options)
