"""A small problem with half of its labels wrong, and commentaries that know which: shared by the tests of evidence."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from commentary_hub.artefact import Rows, load, save
from commentary_hub.commentaries import ExampleWeights
from commentary_hub.data import Examples, content_keys, corrupt_labels
from commentary_hub.evidence import Trial
from commentary_hub.manifest import Cost, DatasetBinding, KeyScheme

CLASSES = 4


@dataclass(frozen=True)
class Student:
    name: str
    build: Any


MLP = Student("mlp", lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, CLASSES)))


def examples(count, seed):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % CLASSES
    centres = torch.randn(CLASSES, 8, generator=torch.Generator().manual_seed(99))
    inputs = centres[targets] + 0.8 * torch.randn(count, 8, generator=generator)
    return Examples.of(inputs, targets, keys=content_keys(inputs.numpy()), classes=tuple("abcd"))


def stored(folder, commentary, *, rows=None, trusted=None, **options):
    """An artefact of any commentary, saved and loaded again."""
    scheme = KeyScheme(form="numeric" if rows is not None else "none")
    binding = DatasetBinding(
        identity={"id": "some/blobs"},
        rows=0 if rows is None else len(rows.keys),
        validation_rows=0 if trusted is None else len(trusted),
        key=scheme,
    )
    settings = {"loss_reduction": "weight_mean", "cost": Cost(seconds=5, device="cpu", inner_steps=100)} | options
    validation = None if trusted is None else trusted.keys
    save(folder, commentary, name="blobs", dataset=binding, rows=rows, validation_keys=validation, **settings)
    return load(folder)


def trial(folder, number=0, *, quality=1.0, stages=1, **options):
    """Weights of ``quality`` 1 know the mistakes, of 0 nothing, of −1 the contrary."""
    train, trusted = examples(240, 10 * number), examples(12, 10 * number + 1)
    noisy, mistaken = corrupt_labels(train, 0.5, noise="pairwise", seed=number)
    table = ExampleWeights(rows=240, stages=stages)
    generator = torch.Generator().manual_seed(number)
    with torch.no_grad():
        sign = 1 - 2 * mistaken.float()
        table.logits.copy_((3 * quality * sign + 0.5 * torch.randn(240, generator=generator))[:, None])
    one = stored(folder, table, rows=Rows(noisy.keys, noisy.target_digests), trusted=trusted)
    sets = {"trusted": trusted, "selection": examples(60, 10 * number + 2), "test": examples(200, 10 * number + 3)}
    return Trial(one, noisy, **(sets | {"mistaken": mistaken} | options))
