"""Lightning's own Trainer under a commentary, against a loop written out by hand."""

import copy

import lightning
import pytest
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from commentary_hub.errors import InputError, TooFewRows
from commentary_hub.manifest import Iterations
from commentary_hub.reuse import bind
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


class Data(lightning.LightningDataModule):
    """Makes its dataset anew with each loader, as many do."""

    def train_dataloader(self):
        return DataLoader(TensorDataset(X, Y), batch_size=40)

    def val_dataloader(self):
        return DataLoader(TensorDataset(X[:8], Y[:8]), batch_size=8)


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


MEAN_ONE = WEIGHTS / WEIGHTS.double().mean().float()
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
    module, data = commented(Validated(), Data(), stored(tmp_path / "a"))
    for _ in range(2):
        trainer(tmp_path).fit(module, datamodule=data)
    assert torch.allclose(module.linear.weight, by_hand(lambda rows, _: MEAN_ONE[rows], epochs=2), atol=1e-6)
    plain = Validated()
    plain.linear.load_state_dict(copy.deepcopy(module.linear.state_dict()))
    trainer(tmp_path).validate(plain, datamodule=Data(), verbose=False)
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
