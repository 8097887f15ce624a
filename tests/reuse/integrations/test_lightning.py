"""Lightning's own Trainer under a commentary, against a loop written out by hand."""

import collections
import copy
import pickle
from typing import NamedTuple

import lightning
import pytest
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from commentary_hub.errors import InputError, TooFewRows
from commentary_hub.manifest import Iterations
from commentary_hub.reuse import CarryRows, bind, bind_stream
from commentary_hub.reuse.integrations.lightning import commented
from tests.reuse.bound import LOGITS, WEIGHTS, N, X, Y, stored

RATE = 0.5


class Plain(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(5, 4)

    def forward(self, inputs):
        return self.linear(inputs)

    def training_step(self, batch, batch_idx):
        return functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=RATE)


class Validated(Plain):
    def __init__(self):
        super().__init__()
        self.validation_losses = []

    def validation_step(self, batch, batch_idx):
        assert len(batch) == 2
        self.validation_losses.append(functional.cross_entropy(self(batch[0]), batch[1]).item())


class Doubled:
    """Hooks of a module or a data module that double the inputs and halve them again; each needs (inputs, targets)."""

    def on_before_batch_transfer(self, batch, dataloader_idx):
        inputs, targets = batch
        return inputs * 2, targets

    def on_after_batch_transfer(self, batch, dataloader_idx):
        inputs, targets = batch
        return inputs / 2, targets


class Data(lightning.LightningDataModule):
    """Makes its dataset anew with each loader, as many do."""

    def train_dataloader(self):
        return DataLoader(TensorDataset(X, Y), batch_size=40)


class ValidatedData(Data):
    def val_dataloader(self):
        return DataLoader(TensorDataset(X[:8], Y[:8]), batch_size=8)


class DoubledPlain(Doubled, Plain):
    pass


class DoubledData(Doubled, Data):
    pass


class Watching(lightning.Callback):
    def __init__(self):
        self.batches = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.batches.append(batch)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.batches.append(batch)


class Stream(IterableDataset):
    """Samples in order, and no length: Lightning fetches a batch ahead to know the last one."""

    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        return iter(self.samples)


class Sample(NamedTuple):
    image: torch.Tensor
    label: int


class Row(collections.UserDict):
    """A dictionary in all but its type."""


def trainer(folder, **settings):
    return lightning.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0, **settings,
    )  # fmt: skip


def by_hand(weight_of, *, accumulate=1, epochs=1):
    """Weighted cross-entropy over the data in order, forty at a time; ``weight_of(rows, step)``."""
    model = Plain().linear
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE)
    step = 0
    for _ in range(epochs):
        for number, rows in enumerate(torch.arange(N).split(40)):
            losses = functional.cross_entropy(model(X[rows]), Y[rows], reduction="none")
            ((weight_of(rows, step) * losses).mean() / accumulate).backward()
            if (number + 1) % accumulate == 0 or number + 1 == N // 40:
                optimiser.step()
                optimiser.zero_grad()
                step += 1
    return model.weight


def mean_one(logits):
    weights = torch.sigmoid(logits)
    return weights / weights.double().mean().float()


MEAN_ONE = WEIGHTS / WEIGHTS.double().mean().float()
LOADER = DataLoader(TensorDataset(X, Y), batch_size=40)
SAMPLES = [Sample(x, int(y)) for x, y in zip(X, Y, strict=True)]
ROWS = [Row(image=x, label=int(y)) for x, y in zip(X, Y, strict=True)]
quiet = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*", "ignore:.*isinstance.treespec.*"
)


@quiet
def test_a_module_and_its_loader_train_as_by_hand(tmp_path):
    module, loader = commented(Plain(), DataLoader(TensorDataset(X, Y), batch_size=40), stored(tmp_path / "a"))
    trainer(tmp_path).fit(module, loader)
    assert torch.allclose(module.linear.weight, by_hand(lambda rows, _: MEAN_ONE[rows]), atol=1e-6)
    assert not torch.allclose(module.linear.weight, by_hand(lambda rows, _: 1.0), atol=1e-4)


@quiet
def test_progress_counts_optimiser_steps_when_gradients_accumulate(tmp_path):
    logits = torch.stack([LOGITS, -LOGITS], dim=1)
    table = stored(tmp_path / "a", logits=logits, stages=2, iterations=Iterations(steps=3, batch_size=80))
    module, loader = commented(Plain(), DataLoader(TensorDataset(X, Y), batch_size=40), table)
    trainer(tmp_path, accumulate_grad_batches=2).fit(module, loader)
    weights = torch.sigmoid(logits) / torch.sigmoid(logits).double().mean(0)

    def weight_of(rows, step):
        return weights[rows, min(step * 2 // 3, 1)].float()

    assert torch.allclose(module.linear.weight, by_hand(weight_of, accumulate=2), atol=1e-6)


@quiet
def test_a_data_module_that_makes_its_data_anew_trains_as_by_hand_and_validates_as_ever(tmp_path):
    module, data = commented(Validated(), ValidatedData(), stored(tmp_path / "a"))
    for _ in range(2):
        trainer(tmp_path).fit(module, datamodule=data)
    assert torch.allclose(module.linear.weight, by_hand(lambda rows, _: MEAN_ONE[rows], epochs=2), atol=1e-6)
    plain = Validated()
    plain.linear.load_state_dict(copy.deepcopy(module.linear.state_dict()))
    trainer(tmp_path).validate(plain, datamodule=ValidatedData(), verbose=False)
    assert module.validation_losses[-1] == pytest.approx(plain.validation_losses[-1])


@quiet
def test_a_batch_of_another_shape_is_told_by_the_caller(tmp_path):
    rows = [{"x": x, "y": y} for x, y in zip(X, Y, strict=True)]
    table = stored(tmp_path / "a")
    module, loader = commented(
        Plain(), DataLoader(rows, batch_size=40), table, unpack=lambda b: (b["x"], b["y"]), targets="y"
    )
    trainer(tmp_path).fit(module, loader)
    assert torch.allclose(module.linear.weight, by_hand(lambda rows, _: MEAN_ONE[rows]), atol=1e-6)
    module, loader = commented(Plain(), DataLoader(rows, batch_size=40), table, targets="y")
    with pytest.raises(InputError, match="unpack="):
        trainer(tmp_path).fit(module, loader)


def test_refusals_come_before_training(tmp_path):
    table = stored(tmp_path / "a")
    module = Plain()
    module.automatic_optimization = False
    with pytest.raises(InputError, match="by hand"):
        commented(module, DataLoader(TensorDataset(X, Y)), table)
    with pytest.raises(InputError, match="not the one that was bound"):
        commented(Plain(), DataLoader(TensorDataset(X, Y)), bind(table, TensorDataset(X, Y)))
    with pytest.raises(TooFewRows):
        commented(Plain(), DataLoader(TensorDataset(torch.cat([X[:9], X[:9] + 1]), Y[:18])), table)


def test_a_loader_keeps_its_own_batches_and_must_make_some(tmp_path):
    table = stored(tmp_path / "a")
    data = TensorDataset(X, Y)
    batches = [[3, 1], [7], list(range(20, 40))]
    _, loader = commented(Plain(), DataLoader(data, batch_sampler=batches), table)
    assert [rows.tolist() for *_, rows in loader] == batches
    with pytest.raises(InputError, match="does not batch"):
        commented(Plain(), DataLoader(data, batch_size=None), table)
    _, loader = commented(Plain(), DataLoader(data, num_workers=1, in_order=False), table)
    assert not loader.in_order


def test_a_loader_of_a_class_of_its_own_is_refused(tmp_path):
    class Doubling(DataLoader):
        def __iter__(self):
            return ((inputs * 2, targets) for inputs, targets in super().__iter__())

    with pytest.raises(InputError, match=r"is a Doubling, .* collate_fn"):
        commented(Plain(), Doubling(TensorDataset(X, Y)), stored(tmp_path / "a"))
    with pytest.raises(InputError, match="is a list: give one DataLoader"):
        commented(Plain(), [LOADER], stored(tmp_path / "a"))


@quiet
@pytest.mark.parametrize("data", [lambda: LOADER, Data], ids=["loader", "data module"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_train_by_themselves(tmp_path, data, copied):
    module, data = commented(Plain(), data(), stored(tmp_path / "a"))
    before = module.linear.weight.clone()
    other, its_data = copied((module, data))
    trainer(tmp_path).fit(copied(module), data)  # a module alone, on the data of the original
    trainer(tmp_path).fit(other, its_data)
    assert torch.allclose(other.linear.weight, by_hand(lambda rows, _: MEAN_ONE[rows]), atol=1e-6)
    assert torch.equal(module.linear.weight, before)
    trainer(tmp_path).fit(module, data)
    assert torch.equal(module.linear.weight, other.linear.weight)


def test_a_pickled_module_holds_no_data(tmp_path):
    module, _ = commented(Plain(), LOADER, stored(tmp_path / "a"))
    assert len(pickle.dumps(module)) < len(pickle.dumps(Plain())) + 500


@quiet
@pytest.mark.filterwarnings("ignore:You have overridden")  # Lightning says which of two hooks it calls
@pytest.mark.parametrize(
    ("module", "data"),
    [(DoubledPlain, lambda: LOADER), (DoubledPlain, Data), (Plain, DoubledData), (DoubledPlain, DoubledData)],
    ids=["module", "module with data module", "data module", "both"],
)
def test_hooks_and_callbacks_see_the_batch_that_they_know(tmp_path, module, data):
    watching = Watching()
    module, data = commented(module(), data(), stored(tmp_path / "a"))
    trainer(tmp_path, callbacks=[watching]).fit(module, data)
    assert torch.allclose(module.linear.weight, by_hand(lambda rows, _: MEAN_ONE[rows]), atol=1e-6)
    assert torch.equal(torch.cat([inputs for inputs, _ in watching.batches[::2]]), X)
    assert torch.equal(torch.cat([targets for _, targets in watching.batches[1::2]]), Y)


@quiet
def test_rows_stay_with_a_batch_that_is_fetched_ahead(tmp_path):
    samples = list(zip(X, Y.tolist(), strict=True))
    module, loader = commented(Plain(), DataLoader(Stream(samples), batch_size=40), stored(tmp_path / "a"))
    trainer(tmp_path).fit(module, loader)
    assert torch.allclose(module.linear.weight, by_hand(lambda rows, _: MEAN_ONE[rows]), atol=1e-6)


@quiet
def test_rows_of_several_tables_of_a_stream(tmp_path):
    tables = [stored(tmp_path / "a"), stored(tmp_path / "b", logits=LOGITS.flip(0))]
    stream = Stream(list(zip(X, Y.tolist(), strict=True)))
    module, loader = commented(Plain(), DataLoader(stream, batch_size=40), bind_stream(tables, stream))
    trainer(tmp_path).fit(module, loader)
    both = MEAN_ONE * mean_one(LOGITS.flip(0))
    assert torch.allclose(module.linear.weight, by_hand(lambda rows, _: both[rows]), atol=1e-6)


@quiet
def test_a_batch_must_keep_its_examples_and_the_data_their_rows(tmp_path):
    class Halved(Plain):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch[0][:20], batch[1][:20]

    table = stored(tmp_path / "a")
    with pytest.raises(InputError, match="20 targets for 40 examples"):
        trainer(tmp_path).fit(*commented(Halved(), LOADER, table))
    module, _ = commented(Plain(), LOADER, table)
    with pytest.raises(InputError, match="on a DataLoader without rows"):
        trainer(tmp_path).fit(module, LOADER)


@quiet
@pytest.mark.parametrize("data", [lambda: LOADER, Data], ids=["loader", "data module"])
def test_data_serve_several_commentaries_and_a_plain_run(tmp_path, data):
    data = data()
    first, other = stored(tmp_path / "a"), stored(tmp_path / "b", logits=-LOGITS)
    runs = [(commented(Plain(), data, first), MEAN_ONE), (commented(Plain(), data, other), mean_one(-LOGITS))]
    again, again_data = commented(*commented(Plain(), data, other), first)  # the later one takes the place
    runs += [((again, again_data), MEAN_ONE), ((Plain(), data), torch.ones(N))]
    for (module, its_data), weights in runs:
        trainer(tmp_path).fit(module, its_data)
        expected = by_hand(lambda rows, _, weights=weights: weights[rows])
        assert torch.allclose(module.linear.weight, expected, atol=1e-6)


@quiet
def test_a_data_module_and_its_commented_face_are_one(tmp_path):
    class Prepared(Data):
        def setup(self, stage):
            self.classes = 4

        def state_dict(self):
            return {"classes": self.classes}

    own = Prepared()
    module, data = commented(Plain(), own, stored(tmp_path / "a"))
    fitting = trainer(tmp_path)
    fitting.fit(module, data)
    assert isinstance(data, Prepared)
    assert own.classes == data.classes == 4
    fitting.save_checkpoint(tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt")[Prepared.__qualname__] == {"classes": 4}  # the caller's own finds it


@quiet
@pytest.mark.filterwarnings("ignore:'pin_memory' argument", "ignore:The number of training batches")
def test_loaders_set_on_a_data_module_are_commented_too(tmp_path):
    own = lightning.LightningDataModule.from_datasets(TensorDataset(X, Y), batch_size=N)
    module, data = commented(Plain(), own, stored(tmp_path / "a"))
    trainer(tmp_path).fit(module, data)
    plain = Plain()
    trainer(tmp_path).fit(plain, own)
    assert not torch.allclose(module.linear.weight, plain.linear.weight, atol=1e-4)


@quiet
@pytest.mark.parametrize("samples", [SAMPLES, ROWS], ids=["named tuples", "like dictionaries"])
@pytest.mark.parametrize("streamed", [False, True])
def test_samples_and_batches_keep_their_type(tmp_path, samples, streamed):
    kind = type(samples[0])
    kinds = set()

    def image(sample):
        return sample.image if isinstance(sample, Sample) else sample["image"]

    def label(sample):
        return sample.label if isinstance(sample, Sample) else sample["label"]

    def collate(batch):
        kinds.update(map(type, batch))
        return kind(image=torch.stack([image(one) for one in batch]), label=torch.tensor([label(one) for one in batch]))

    def unpack(batch):
        kinds.add(type(batch))
        return image(batch), label(batch)

    names = {"inputs": "image", "targets": "label"} if kind is Row else {}
    data = DataLoader(Stream(samples) if streamed else samples, batch_size=40, collate_fn=collate)
    module, loader = commented(Plain(), data, stored(tmp_path / "a"), unpack=unpack, **names)
    trainer(tmp_path).fit(module, loader)
    assert torch.allclose(module.linear.weight, by_hand(lambda rows, _: MEAN_ONE[rows]), atol=1e-6)
    assert kinds == {kind}


def test_a_binding_of_named_tuples_gives_named_tuples(tmp_path):
    binding = bind(stored(tmp_path / "a"), SAMPLES)
    for collate in (None, CarryRows()):
        batch = next(iter(DataLoader(binding, batch_size=3, collate_fn=collate)))
        assert torch.equal(batch.image, X[:3])
        assert batch.commentary_row.tolist() == [0, 1, 2]
    assert pickle.loads(pickle.dumps(binding[5])).commentary_row == 5  # as a worker sends it


@quiet
def test_a_compiled_module_compiles_its_forward_once(tmp_path):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    module = Plain()
    table = stored(tmp_path / "a", iterations=Iterations(steps=100, batch_size=40))
    compiled, loader = commented(torch.compile(module, backend=backend), LOADER, table)
    trainer(tmp_path).fit(compiled, loader)
    assert torch.allclose(module.linear.weight, by_hand(lambda rows, _: MEAN_ONE[rows]), atol=1e-6)
    assert len(graphs) == 1
