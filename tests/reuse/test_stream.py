"""Streams: examples are recognised as they come, in whatever order and process."""

import pytest
import torch
from datasets import interleave_datasets
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from commentary_hub.commentaries import cross_entropy
from commentary_hub.errors import ClassesDiffer, InputError, TooFewRows, WrongDataset
from commentary_hub.reuse import bind_stream
from tests.reuse.bound import LOGITS, WEIGHTS, N, X, Y, stored, table_dataset

MEAN = WEIGHTS.double().mean().float()


class Counting(IterableDataset):
    """A user's own stream, which shares its samples among workers."""

    def __init__(self, x=X, y=Y):
        self.samples = list(zip(x, y.tolist(), strict=True))

    def __iter__(self):
        worker = get_worker_info()
        return iter(self.samples if worker is None else self.samples[worker.id :: worker.num_workers])


def check_losses(binding, loader, expected_size):
    """Every batch's loss is that of the weights of its own examples, found again by content."""
    known = {bytes(x.numpy().tobytes()): place for place, x in enumerate(X)}
    student = torch.nn.Linear(5, 4)
    seen = []
    for inputs, targets, rows in loader:
        places = [known[x.numpy().tobytes()] for x in inputs]
        loss = binding.loss(student, inputs, targets, rows)
        expected = (WEIGHTS[places] / MEAN * cross_entropy(student(inputs), targets)).mean()
        assert torch.allclose(loss, expected, atol=1e-6)
        seen += places
    assert len(seen) == expected_size
    assert (binding.seen.examples, binding.seen.found) == (expected_size, expected_size)
    return seen


@pytest.mark.parametrize("workers", [0, 2])
def test_a_users_stream_in_several_processes(tmp_path, workers):
    binding = bind_stream(stored(tmp_path / "a"), Counting())
    seen = check_losses(binding, DataLoader(binding, batch_size=16, num_workers=workers), N)
    assert sorted(seen) == list(range(N))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_hugging_face_stream_is_shuffled_mapped_and_interleaved_after_it_was_bound(tmp_path, workers):
    binding = bind_stream(
        stored(tmp_path / "a", classes=tuple("abcd")), table_dataset().to_iterable_dataset(num_shards=2)
    )
    changed = binding.dataset.shuffle(seed=3, buffer_size=50).map(lambda row: {"label": row["label"]})
    mixed = interleave_datasets([changed, changed], stopping_strategy="all_exhausted")
    loader = DataLoader(mixed.with_format("torch"), batch_size=20, num_workers=workers)
    batches = ((batch["x"].float(), batch["label"], batch["commentary_row"]) for batch in loader)
    seen = check_losses(binding, batches, 2 * N)
    assert sorted(seen) == sorted([*range(N), *range(N)])


def test_foreign_and_relabelled_samples_get_the_neutral_value(tmp_path):
    labels = Y.clone()
    labels[::4] = (labels[::4] + 1) % 4
    binding = bind_stream(
        stored(tmp_path / "a"), Counting(torch.cat([X, X + 1]), torch.cat([labels, Y])), threshold=0.3
    )
    (batch,) = DataLoader(binding, batch_size=2 * N)
    weights = binding.step(*batch, 0.0).weights
    expected = torch.cat([WEIGHTS, torch.full((N,), 0.5)])
    expected[:N:4] = 0.5
    assert torch.allclose(weights, expected / MEAN, atol=1e-6)


def test_several_tables_ride_on_one_stream(tmp_path):
    first, second = stored(tmp_path / "a"), stored(tmp_path / "b", logits=-LOGITS)
    binding = bind_stream([first, second], Counting())
    (batch,) = DataLoader(binding, batch_size=N)
    assert batch[2].shape == (N, 2)
    assert torch.allclose(
        binding.step(*batch, 0.0).weights, WEIGHTS * (1 - WEIGHTS) / MEAN / (1 - WEIGHTS).mean(), atol=1e-5
    )


def test_refusals_come_before_training(tmp_path):
    commentary = stored(tmp_path / "a", classes=tuple("abcd"))
    with pytest.raises(WrongDataset, match="none of the"):
        bind_stream(commentary, Counting(X + 1))
    with pytest.raises(TooFewRows):
        bind_stream(commentary, Counting(torch.cat([X[:50], X[:50] + 1]), torch.cat([Y[:50], Y[:50]])))
    with pytest.raises(ClassesDiffer):
        bind_stream(commentary, table_dataset(names="bacd").to_iterable_dataset())
    with pytest.raises(InputError, match="empty"):
        bind_stream(commentary, Counting(X[:0], Y[:0]))
