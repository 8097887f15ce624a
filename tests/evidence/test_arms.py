"""Every control is what its name says."""

import pytest
import torch
from torch import nn

from commentary_hub.commentaries import Batch, Blend, commented_loss
from commentary_hub.data import Examples, content_keys
from commentary_hub.errors import EvidenceError
from commentary_hub.evidence import Arm, standard_arms, weighted_arm, with_trusted
from commentary_hub.evidence._arms import Lessons, minibatches, repeats_for, soft_targets
from commentary_hub.evidence._train import summed_loss

CLASSES = 3
CPU = torch.device("cpu")


def examples(count, seed):
    inputs = torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))
    return Examples.of(inputs, torch.arange(count) % CLASSES, keys=content_keys(inputs.numpy()))


NOISY, TRUSTED = examples(90, 0), examples(9, 1)
WEIGHTS = torch.rand(90, generator=torch.Generator().manual_seed(2))
ARMS = {arm.name: arm for arm in standard_arms(NOISY, TRUSTED, WEIGHTS, share=0.2, keep={"filter": WEIGHTS > 0.5})}


def lessons(arm, steps=20, seeds=(0, 1), batch_size=16):
    return Lessons(arm, seeds, classes=CLASSES, steps=steps, batch_size=batch_size, device=CPU)


def test_the_arms_of_a_comparison_and_their_roles():
    assert {name: arm.role for name, arm in ARMS.items()} == {
        "commentary": "commentary",
        "none": "control",
        "clean_only": "control",
        "equal_data": "control",
        "shuffled": "control",
        "random": "control",
        "filter": "competitor",
    }
    assert [arm.name for arm in standard_arms(NOISY, None, WEIGHTS)] == ["commentary", "none", "shuffled", "random"]


def test_equal_data_has_exactly_the_commentarys_examples_and_batches():
    for name in ("equal_data", "shuffled", "random"):
        ours, theirs = ARMS["commentary"].examples, ARMS[name].examples
        assert torch.equal(ours.inputs, theirs.inputs)
        assert torch.equal(ours.targets, theirs.targets)
        one, other = lessons(ARMS["commentary"]), lessons(ARMS[name])
        assert all(torch.equal(one(step).inputs, other(step).inputs) for step in range(20))


def test_shuffled_is_a_permutation_and_random_has_the_same_distribution():
    ours, shuffled, random = (ARMS[name].weights for name in ("commentary", "shuffled", "random"))
    size = len(NOISY)
    assert torch.equal(shuffled[:size].sort().values, ours[:size].sort().values)
    assert (shuffled[:size] != ours[:size]).float().mean() > 0.9
    unscaled = random[:size] * _factor(random[:size])
    assert set(unscaled.mul(1e5).round().tolist()) <= set(WEIGHTS.mul(1e5).round().tolist())
    big = torch.rand(20000)
    arms = {arm.name: arm for arm in standard_arms(_many(20000), None, big)}
    quantiles = torch.linspace(0.05, 0.95, 7)
    expected = arms["commentary"].weights.quantile(quantiles)
    torch.testing.assert_close(arms["random"].weights.quantile(quantiles), expected, atol=0.03, rtol=0)


def _factor(scaled):
    """The mean that ``scaled`` was divided by: the one factor that makes its highest value one of the weights."""
    factors = WEIGHTS / scaled.max()
    near = [(scaled[:, None] * factor - WEIGHTS).abs().min(1).values.max() for factor in factors]
    return factors[int(torch.stack(near).argmin())]


def _many(count):
    inputs = torch.arange(count, dtype=torch.float32)[:, None]
    return Examples.of(inputs, torch.zeros(count, dtype=torch.int64), keys=content_keys(inputs.numpy()))


def test_trusted_examples_count_the_same_in_every_arm():
    repeats = repeats_for(90, 9, 0.2)
    assert repeats == 3
    for name in ("commentary", "shuffled", "random"):
        weights = ARMS[name].weights
        torch.testing.assert_close(weights[:90].mean(), torch.tensor(1.0))
        assert weights[90:].tolist() == [1.0] * 27
    assert len(ARMS["equal_data"].examples) == 90 + 27
    assert len(ARMS["filter"].examples) == int((WEIGHTS > 0.5).sum()) + 27
    assert len(ARMS["none"].examples) == 90
    assert len(ARMS["clean_only"].examples) == 9
    assert len(with_trusted(NOISY, NOISY, 0.2)) == 180


def test_minibatches_pass_over_the_whole_set_and_follow_the_seed():
    order = minibatches(10, 4, 5, seed=3)
    assert order.shape == (5, 4)
    assert order.flatten()[:10].sort().values.tolist() == list(range(10))
    assert order.flatten()[10:].sort().values.tolist() == list(range(10))
    assert torch.equal(order, minibatches(10, 4, 5, seed=3))
    assert not torch.equal(order, minibatches(10, 4, 5, seed=4))
    assert minibatches(3, 8, 2, seed=0).shape == (2, 8)  # fewer examples than a batch: some come twice


@pytest.mark.parametrize("reduction", ["sum", "mean", "weight_mean"])
@pytest.mark.parametrize("blended", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_soft_targets_give_the_loss_that_the_commentary_means(reduction, blended, weighted):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(12, 5, generator=generator)
    outputs = torch.randn(12, CLASSES, generator=generator)
    targets = torch.randint(CLASSES, (12,), generator=generator)
    weights = torch.rand(12, generator=generator) if weighted else None
    other = torch.randperm(12, generator=generator)
    partner_weights = None if weights is None else weights[other]
    blend = Blend(targets[other], torch.rand(12, generator=generator), partner_weights) if blended else None
    batch = Batch(inputs, targets, weights=weights, blend=blend)
    arm = Arm("change", _many(12), change=lambda *_, **__: batch, reduction=reduction)
    lesson = lessons(arm, steps=1, seeds=[0], batch_size=12)(0)
    assert torch.equal(lesson.targets[0], soft_targets(batch, CLASSES))
    found = summed_loss(outputs, lesson.targets[0], lesson.scale[0], 0.0)
    torch.testing.assert_close(found, commented_loss(outputs, batch, reduction=reduction))


def test_stages_follow_the_training():
    stages = torch.stack([torch.full((90,), 1.0), torch.full((90,), 2.0)])
    arm = Arm("stages", NOISY, stages, reduction="sum")
    found = [lessons(arm, steps=4)(step).targets.sum() / 32 for step in range(4)]
    assert [float(value) for value in found] == [1.0, 1.0, 2.0, 2.0]


def test_changes_know_step_and_seed():
    calls = []

    def change(inputs, targets, rows, progress, *, seed):
        calls.append((progress, seed))
        assert torch.equal(inputs, NOISY.inputs[rows])
        return Batch(inputs, targets)

    own = lessons(Arm("c", NOISY, change=change), steps=4, seeds=(0, 7))
    for step in range(4):
        own(step)
    assert [progress for progress, _ in calls] == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    assert len({seed for _, seed in calls}) == 8


def test_label_smoothing_is_torchs():
    outputs = torch.randn(16, CLASSES, generator=torch.Generator().manual_seed(0))
    lesson = lessons(Arm("s", NOISY, smoothing=0.3), steps=1, seeds=[0])(0)
    targets = NOISY.targets[minibatches(90, 16, 1, 0)[0]]
    expected = nn.functional.cross_entropy(outputs, targets, label_smoothing=0.3)
    torch.testing.assert_close(summed_loss(outputs, lesson.targets[0], lesson.scale[0], 0.0), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Arm("a", NOISY, torch.ones(89)), r"weights of shape \[89\]"),
        (lambda: Arm("a", NOISY, -torch.ones(90)), "negative"),
        (lambda: Arm("a", NOISY, torch.full((90,), float("nan"))), "not finite"),
        (lambda: Arm("a", NOISY, torch.ones(90), change=lambda *_, **__: None), "one of the two"),
        (lambda: Arm("a", NOISY, trimmed=1.0), "shares"),
        (lambda: weighted_arm("a", NOISY, TRUSTED, torch.zeros(90), share=0.2), "all zero"),
        (lambda: standard_arms(NOISY, TRUSTED, WEIGHTS, keep={"f": torch.zeros(90, dtype=torch.bool)}), "keep one"),
        (lambda: standard_arms(NOISY, TRUSTED, WEIGHTS, share=1.0), "trusted_share"),
    ],
)
def test_arms_that_make_no_sense_are_refused(make, message):
    with pytest.raises(EvidenceError, match=message):
        make()
