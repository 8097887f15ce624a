import pytest
import torch

from commentary_hub.data import corrupt_labels, long_tailed, open_examples
from commentary_hub.errors import InputError


@pytest.fixture(scope="module")
def digits():
    return open_examples("sklearn:digits", split="train", limit=400)


@pytest.mark.parametrize("noise", ["pairwise", "symmetric"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_exactly_the_share_is_wrong_and_named(digits, noise, share):
    wrong, mistaken = corrupt_labels(digits, share, noise=noise, seed=3)
    assert int(mistaken.sum()) == round(share * len(digits))
    assert torch.equal(wrong.targets != digits.targets, mistaken)
    assert (wrong.keys == digits.keys).all()
    changed = (wrong.target_digests != digits.target_digests).any(axis=1)
    assert (changed == mistaken.numpy()).all()


def test_a_pairwise_mistake_is_the_next_class(digits):
    wrong, mistaken = corrupt_labels(digits, 0.5, noise="pairwise", seed=0)
    assert torch.equal(wrong.targets[mistaken], (digits.targets[mistaken] + 1) % 10)


def test_symmetric_mistakes_reach_every_other_class(digits):
    wrong, _ = corrupt_labels(digits, 1.0, noise="symmetric", seed=0)
    steps = (wrong.targets - digits.targets) % 10
    assert set(steps.tolist()) == set(range(1, 10))


def test_the_seed_decides(digits):
    first, again, other = (corrupt_labels(digits, 0.5, noise="symmetric", seed=seed)[0].targets for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_share_is_a_fraction(digits):
    with pytest.raises(InputError, match="from 0 to 1"):
        corrupt_labels(digits, 50, noise="pairwise", seed=0)


def test_a_noise_that_does_not_exist_is_not_another_one(digits):
    with pytest.raises(InputError, match="noise is 'symetric': choose one of pairwise, symmetric"):
        corrupt_labels(digits, 0.5, noise="symetric", seed=0)


def test_long_tails_fall_geometrically_and_follow_the_seed():
    examples = open_examples("sklearn:digits")
    few = long_tailed(examples, 20, seed=1)
    before, after = examples.targets.bincount(), few.targets.bincount()
    expected = (before * 20.0 ** (-torch.arange(10) / 9)).round()
    assert after.tolist() == expected.int().tolist()
    assert (few.keys == long_tailed(examples, 20, seed=1).keys).all()
    other = long_tailed(examples, 20, seed=2)
    assert len(other) == len(few)
    assert not (few.keys == other.keys).all()
    assert len(long_tailed(examples, 1, seed=0)) == len(examples)
    assert long_tailed(examples, 10**9, seed=0).targets.bincount().min() == 1
    with pytest.raises(InputError, match="ratio is 0"):
        long_tailed(examples, 0.5, seed=0)
