import pytest
import torch

from commentary_hub.data import corrupt_labels, open_examples
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
