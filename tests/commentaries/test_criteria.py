"""Losses per example: of classes, of several labels, of numbers, and of sequences with their padding left out."""

import pytest
import torch
from torch.nn import functional

from commentary_hub.commentaries import (
    Batch,
    ExampleWeights,
    binary_cross_entropy,
    causal_cross_entropy,
    commented_loss,
    cross_entropy,
    squared_error,
    token_cross_entropy,
)
from commentary_hub.data import Examples, content_keys, corrupt_labels, split_examples
from commentary_hub.errors import InputError, LabelError, ShapeError
from commentary_hub.learning import SGD, Student, Unrolled, learn
from commentary_hub.networks import CharLM


def test_classes_may_be_integers_of_any_width():
    outputs, targets = torch.randn(4, 3), torch.tensor([0, 2, 1, 2])
    expected = functional.cross_entropy(outputs, targets, reduction="none")
    for dtype in (torch.int64, torch.int32, torch.uint8):
        assert torch.equal(cross_entropy(outputs, targets.to(dtype)), expected)


@pytest.mark.parametrize(
    ("outputs", "targets", "error", "words"),
    [
        (torch.zeros(2, 3), torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), LabelError, "criterion=binary_cross"),
        (torch.zeros(2, 1), torch.rand(2), LabelError, "criterion=squared_error"),
        (torch.zeros(2, 1), torch.tensor([0, 0]), ShapeError, "two classes or more .* criterion=binary_cross"),
        (torch.zeros(2, 3), torch.tensor([[1, 0, 1], [0, 1, 1]]), ShapeError, r"targets \[2, 3\]"),
        (torch.zeros(2, 3), torch.tensor([[1], [0]]), ShapeError, r"targets \[2, 1\]"),
        (torch.zeros(2, 3), torch.tensor([0]), ShapeError, r"targets \[1\]"),
        (torch.zeros(2), torch.tensor([0, 1]), ShapeError, r"outputs are \[2\]"),
        (torch.zeros(2, 4, 3), torch.tensor([0, 1]), ShapeError, "criterion=token_cross_entropy"),
    ],
)
def test_targets_that_are_no_classes_are_refused_and_another_criterion_is_named(outputs, targets, error, words):
    with pytest.raises(error, match=words):
        commented_loss(outputs, Batch(outputs, targets), reduction="mean")


def test_the_loss_of_several_labels_is_their_mean():
    outputs, targets = torch.randn(5, 3), torch.randint(0, 2, (5, 3))
    shares = outputs.sigmoid()
    by_hand = -(targets * shares.log() + (1 - targets) * (1 - shares).log()).sum(1) / 3
    for given in (targets, targets.bool(), targets.double()):
        torch.testing.assert_close(binary_cross_entropy(outputs, given), by_hand)
    one = binary_cross_entropy(outputs[:, :1], targets[:, 0])
    torch.testing.assert_close(one, binary_cross_entropy(outputs[:, 0], targets[:, 0]))
    torch.testing.assert_close(one, binary_cross_entropy(outputs[:, :1], targets[:, :1]))


def test_a_squared_error_is_a_mean_over_an_examples_numbers():
    outputs, targets = torch.randn(5, 2, 3), torch.randn(5, 2, 3)
    torch.testing.assert_close(squared_error(outputs, targets), ((outputs - targets) ** 2).mean((1, 2)))
    expected = (outputs[:, 0, 0] - targets[:, 0, 0]) ** 2
    torch.testing.assert_close(squared_error(outputs[:, 0, 0], targets[:, 0, 0]), expected)
    torch.testing.assert_close(squared_error(outputs[:, 0, :1], targets[:, 0, 0]), expected)


@pytest.mark.parametrize("criterion", [binary_cross_entropy, squared_error])
@pytest.mark.parametrize(
    ("outputs", "targets"),
    [((4,), (4, 1)), ((4, 2), (4,)), ((4, 2), (4, 3)), ((4, 1), (3,)), ((4, 3), (4, 1)), ((4, 2, 1), (4, 2)), ((), ())],
)
def test_shapes_that_torch_would_broadcast_are_refused(criterion, outputs, targets):
    with pytest.raises(ShapeError, match=r"the same shape for both, or \[B, 1\] and \[B\]"):
        criterion(torch.zeros(outputs), torch.zeros(targets))


@pytest.mark.parametrize(("criterion", "outputs"), [(binary_cross_entropy, 3), (squared_error, 1)])
def test_these_losses_take_weights(criterion, outputs):
    given, weights = torch.randn(4, outputs), torch.tensor([1.0, 0.0, 0.5, 0.5])
    targets = torch.rand(4, 3) if outputs == 3 else torch.rand(4)
    loss = commented_loss(
        given, Batch(given, targets, weights=weights), reduction="weight_mean", criterion=criterion
    )  # fmt: skip
    torch.testing.assert_close(loss, (weights * criterion(given, targets)).sum() / 2)


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
