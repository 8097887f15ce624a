"""Losses of sequences: one number per example, padding left out, the next token predicted."""

import pytest
import torch
from torch.nn import functional

from commentary_hub.commentaries import (
    ExampleWeights,
    causal_cross_entropy,
    token_cross_entropy,
)
from commentary_hub.data import Examples, content_keys, corrupt_labels, split_examples
from commentary_hub.errors import InputError, LabelError, ShapeError
from commentary_hub.learning import SGD, Student, Unrolled, learn
from commentary_hub.networks import CharLM


def test_token_losses_are_means_over_known_tokens():
    outputs, targets = torch.randn(3, 4, 5), torch.randint(0, 5, (3, 4))
    targets[0, 2:] = -100
    targets[2] = -100
    losses = token_cross_entropy(outputs, targets)
    assert torch.allclose(losses[0], functional.cross_entropy(outputs[0, :2], targets[0, :2]))
    assert torch.allclose(losses[1], functional.cross_entropy(outputs[1], targets[1]))
    assert float(losses[2]) == 0


def test_a_causal_loss_compares_each_place_with_the_next_token():
    outputs, ids = torch.randn(2, 4, 5), torch.randint(0, 5, (2, 4))
    by_hand = [
        sum(functional.cross_entropy(outputs[b, t], ids[b, t + 1]) for t in range(3)) / 3 for b in range(2)
    ]  # fmt: skip
    assert torch.allclose(causal_cross_entropy(outputs, ids), torch.stack(by_hand))


def sequences(size, *, seed=0, noisy=None):
    """Sequences that count upwards; those marked ``noisy`` are random."""
    generator = torch.Generator().manual_seed(seed)
    ids = (torch.randint(0, 7, (size, 1), generator=generator) + torch.arange(12)) % 7
    if noisy is not None:
        ids[noisy] = torch.randint(0, 7, (int(noisy.sum()), 12), generator=generator)
    return Examples.of(ids, ids, keys=content_keys([f"{seed} {number}" for number in range(size)]), form="text")


def test_a_language_model_teaches_example_weights():
    noisy = torch.arange(40) % 2 == 0
    weights = ExampleWeights(rows=40)
    learn(
        weights,
        Student("lm", lambda: CharLM(7, width=8, layers=1)),
        train=sequences(40, noisy=noisy),
        validation=sequences(10, seed=1),
        method=Unrolled(),
        inner=SGD(lr=0.5),
        inner_steps=15,
        batch_size=20,
        outer_steps=10,
        criterion=causal_cross_entropy,
    )
    assert weights.values()[~noisy].min() > weights.values()[noisy].max()


def test_sequences_split_and_tell_their_shapes():
    examples = sequences(20)
    parts = split_examples(examples, {"a": 12, "b": 8}, seed=0)
    assert parts["a"].targets.shape == (12, 12)
    assert (parts["a"].target_digests == parts["a"].subset(torch.arange(12)).target_digests).all()
    with pytest.raises(LabelError, match="only one label per example"):
        corrupt_labels(examples, 0.5, noise="symmetric", seed=0)
    keys = content_keys(["a", "b"])
    with pytest.raises(ShapeError, match=r"targets has shape \[2, 3, 4\]"):
        Examples.of(torch.zeros(2, 3), torch.zeros(2, 3, 4, dtype=torch.int64), keys=keys)
    with pytest.raises(LabelError, match="labels run from -1"):
        Examples.of(torch.zeros(2, 3), torch.tensor([[-1, 0], [1, -100]]), keys=keys)
    assert len(Examples.of(torch.zeros(2, 3), torch.tensor([[-100, 0], [1, -100]]), keys=keys)) == 2


def test_a_vocabulary_that_is_too_small_is_named_before_the_run():
    settings = {"method": Unrolled(), "inner": SGD(lr=0.5), "inner_steps": 2, "batch_size": 4, "outer_steps": 1}
    with pytest.raises(InputError, match="token ids run to 6, is its vocabulary larger"):
        learn(
            ExampleWeights(rows=20), Student("lm", lambda: CharLM(5, width=4)), train=sequences(20),
            validation=sequences(5, seed=1), criterion=causal_cross_entropy, **settings,
        )  # fmt: skip
