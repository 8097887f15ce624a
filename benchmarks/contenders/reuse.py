"""Training loops under every kind of commentary, and the plain one."""

import itertools
import time

import torch
from torch.utils.data import DataLoader

from commentary_hub.artefact import Rows, load, save
from commentary_hub.commentaries import (
    AttentionMask,
    ExampleWeights,
    LabelBlend,
    MixtureWeights,
    WeightNetwork,
    cross_entropy,
)
from commentary_hub.data import dataset_keys, raw_examples
from commentary_hub.manifest import DatasetBinding, KeyScheme
from commentary_hub.reuse import bind

CLASSES, BATCH, EXAMPLES = 10, 4, 2_048


class Nothing(torch.nn.Module):
    """A student that costs nothing: what is left is the loop."""

    def __init__(self):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(CLASSES))

    def forward(self, inputs):
        return self.logits.expand(len(inputs), CLASSES)


def kinds():
    torch.manual_seed(0)
    return {
        "table": ExampleWeights(rows=EXAMPLES, stages=4),
        "mixture": MixtureWeights(["one", "two"]),
        "blend": LabelBlend(CLASSES),
        "mask": AttentionMask(channels=3, sigma=6.0),
        "network": WeightNetwork("cbr", settings={"channels": 3}, labels="none"),
    }


def stored(folder, commentary, dataset):
    form, rows = "none", None
    if commentary.row_tensors:
        raw = raw_examples(dataset)
        form, rows = "numeric", Rows(*dataset_keys(raw, workers=0))
    binding = DatasetBinding(identity={"id": "random/pictures"}, rows=len(dataset), key=KeyScheme(form=form))
    save(folder, commentary, name="one", dataset=binding, loss_reduction="mean", rows=rows)
    return load(folder)


def contenders(folder, dataset):
    """Name → a binding of the dataset, ``None`` for the plain loop."""
    sources = ["one", "two"] * (len(dataset) // 2)
    saved = {name: stored(folder / name, kind, dataset) for name, kind in kinds().items()}
    found = {name: bind(one, dataset, sources=sources) for name, one in saved.items()}
    found["table, mask and blend"] = bind([saved["table"], saved["mask"], saved["blend"]], dataset)
    return {"plain": None} | found


class Loop:
    """One contender's endless training loop; every call is one step. The student is shared with the others."""

    def __init__(self, binding, dataset, student, workers):
        torch.manual_seed(0)
        self.binding, self.student = binding, student
        self.optimiser = torch.optim.SGD(student.parameters(), lr=1e-4)
        self.loader = DataLoader(
            dataset if binding is None else binding,
            batch_size=BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0, drop_last=True,
        )  # fmt: skip
        self.batches = itertools.chain.from_iterable(iter(self.loader) for _ in itertools.count())

    def __call__(self):
        wall, own = time.perf_counter(), time.process_time()
        batch = next(self.batches)
        self.optimiser.zero_grad()
        if self.binding is None:
            inputs, targets = batch
            loss = cross_entropy(self.student(inputs), targets).mean()
        else:
            loss = self.binding.loss(self.student, *batch)
        loss.backward()
        self.optimiser.step()
        return time.process_time() - own, time.perf_counter() - wall
