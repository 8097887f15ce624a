"""Streams: examples are recognised as they come, in whatever order and process."""

import pytest
import torch
from datasets import Dataset, interleave_datasets
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, get_worker_info

from commentary_hub.artefact import load, save
from commentary_hub.commentaries import MixtureWeights, cross_entropy
from commentary_hub.errors import BindingError, ClassesDiffer, InputError, TooFewRows, WrongDataset
from commentary_hub.manifest import DatasetBinding
from commentary_hub.reuse import bind, bind_stream
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


def test_a_stream_keeps_its_length_and_is_told_the_epoch(tmp_path):
    class Epochs(Counting):
        epoch = 0

        def __len__(self):
            return len(self.samples)

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __iter__(self):
            return iter(self.samples[self.epoch :])

    binding = bind_stream(stored(tmp_path / "a"), Epochs())
    assert (len(binding), len(DataLoader(binding, batch_size=16))) == (N, -(-N // 16))
    binding.set_epoch(5)
    assert torch.equal(next(iter(binding))[0], X[5])
    without = bind_stream(stored(tmp_path / "b"), Counting())
    assert not hasattr(without, "set_epoch")
    with pytest.raises(TypeError, match="has no len"):
        len(without)
    binding.step_count = 7
    assert binding.step_count == 7


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
    for given, sentence in (
        (((x, y) for x, y in zip(X, Y, strict=True)), "this generator can be read only once"),
        (None, "NoneType is no stream"),
        ("ada/numbers", "a name and no dataset"),
        ({"train": Counting(X, Y)}, r"several datasets \(train\)"),
        (DataLoader(TensorDataset(X, Y)), "a DataLoader gives batches"),
    ):
        with pytest.raises(InputError, match=sentence):
            bind_stream(commentary, given)


SOURCES = ["news" if place % 4 else "plays" if place % 8 else "poems" for place in range(N)]
OF = {"news": 150, "plays": 25}  # and 25 of poems, which the mixture does not know


def mixture(folder):
    commentary = MixtureWeights(["plays", "news", "law"])
    with torch.no_grad():
        commentary.logits.copy_(torch.tensor([1.0, 0.0, 0.5]))
    binding = DatasetBinding(identity={"id": "some/rows"}, rows=N, key={"form": "none"})
    save(folder, commentary, name="mixed", dataset=binding, loss_reduction="mean")
    return load(folder)


def sourced(order=range(N)):
    """The rows as a table with their sources, in another order."""
    order = list(order)
    table = {"x": X[order].tolist(), "label": Y[order].tolist(), "source": [SOURCES[place] for place in order]}
    return Dataset.from_dict(table)


class Named(IterableDataset):
    """A stream of dictionaries."""

    def __iter__(self):
        worker = get_worker_info()
        start, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for place in range(start, N, step):
            yield {"x": X[place], "label": int(Y[place]), "source": SOURCES[place]}


def batches(loader):
    return ((batch["x"].float(), batch["label"], batch["commentary_row"]) for batch in loader)


def test_a_mixture_weighs_a_stream_whose_shares_are_said_as_it_weighs_the_dataset(tmp_path):
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2)).tolist()
    one = mixture(tmp_path / "a")
    mapped = bind(one, sourced(order), sources="source", inputs="x")
    stream = sourced(order).to_iterable_dataset(num_shards=2)
    binding = bind_stream(one, stream, sources="source", shares=OF, inputs="x")
    student = torch.nn.Linear(5, 4)
    met = 0
    for inputs, targets, rows in batches(DataLoader(binding.dataset.with_format("torch"), batch_size=20)):
        places = torch.arange(met, met + len(rows))
        expected = mapped.loss(student, X[order][places], Y[order][places], places)
        assert torch.allclose(binding.loss(student, inputs, targets, rows), expected, atol=1e-6)
        met += len(rows)
    assert (met, binding.seen.examples, binding.seen.found) == (N, N, sum(OF.values()))


def test_sources_that_nobody_counted_are_counted_as_they_come(tmp_path):
    stream = sourced(sorted(range(N), key=SOURCES.__getitem__)).to_iterable_dataset()
    binding = bind_stream(mixture(tmp_path / "a"), stream, sources="source", inputs="x")
    student = torch.nn.Linear(5, 4)
    looked_at, counts = torch.tensor([25.0, 150.0]), torch.zeros(2)  # a first look, which here meets them all
    shares = torch.softmax(torch.tensor([1.0, 0.0]), 0)
    for inputs, targets, rows in batches(DataLoader(binding.dataset.with_format("torch"), batch_size=25)):
        with torch.no_grad():
            binding.loss(student, inputs, targets, rows)  # no step: counts nothing
        counts += torch.bincount(rows[rows >= 0], minlength=2)
        told = counts if counts.sum() >= 175 else looked_at
        weights = torch.where(rows >= 0, (shares / (told / told.sum()))[rows.clamp_min(0)], 1.0)
        expected = (weights * cross_entropy(student(inputs), targets)).mean()
        assert torch.allclose(binding.loss(student, inputs, targets, rows), expected, atol=1e-6)
    assert counts.tolist() == [25, 150]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mixture_and_a_table_multiply_on_a_users_stream(tmp_path, workers):
    both = [mixture(tmp_path / "a"), stored(tmp_path / "b")]
    binding = bind_stream(both, Named(), sources="source", shares=OF)
    alone = bind(mixture(tmp_path / "a"), sourced(), sources=SOURCES, inputs="x").weights()
    known = {x.numpy().tobytes(): place for place, x in enumerate(X)}
    for inputs, targets, rows in batches(DataLoader(binding, batch_size=40, num_workers=workers)):
        places = [known[x.numpy().tobytes()] for x in inputs]
        weights = binding.step(inputs, targets, rows, 0.0).weights
        assert torch.allclose(weights, (alone * WEIGHTS)[places] / MEAN, atol=1e-5)


def test_a_mixture_says_what_a_stream_lacks(tmp_path):
    one, stream = mixture(tmp_path / "a"), sourced().to_iterable_dataset()
    for error, sentence, given, options in (
        (BindingError, "sources=.*interleave", stream, {}),
        (InputError, "no entry 'origin'", stream, {"sources": "origin"}),
        (InputError, "dictionaries", Counting(), {"sources": "source"}),
        (BindingError, "none of the first", stream, {"sources": "label"}),
        (InputError, "no source 'novels'", stream, {"sources": "source", "shares": {"novels": 1}}),
        (InputError, "leaves out", stream, {"sources": "source", "shares": {"news": 1}}),
        (InputError, "not all of them 0", stream, {"sources": "source", "shares": OF | {"law": -1}}),
    ):
        named = {"inputs": "x"} if given is stream else {}
        with pytest.raises(error, match=sentence):
            bind_stream(one, given, **named, **options)
