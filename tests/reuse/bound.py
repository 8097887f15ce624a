"""A stored table of weights over two hundred numeric rows, and the same rows as other kinds of dataset."""

import torch
from datasets import ClassLabel, Dataset, Features, List, Value

from commentary_hub.artefact import Rows, load, save
from commentary_hub.commentaries import ExampleWeights
from commentary_hub.data import content_keys, target_digests
from commentary_hub.manifest import DatasetBinding, KeyScheme

N = 200
X = torch.randn(N, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 4
LOGITS = torch.linspace(-3, 3, N)
WEIGHTS = torch.sigmoid(LOGITS)


def stored(folder, keys=None, digests=None, *, logits=LOGITS, form="numeric", classes=None, salt=None, **options):
    keys = content_keys(X, salt=salt) if keys is None else keys
    digests = target_digests(Y) if digests is None else digests
    table = ExampleWeights(rows=len(keys), stages=options.pop("stages", 1))
    with torch.no_grad():
        table.logits.copy_(logits.reshape(len(keys), -1))
    scheme = KeyScheme(form=form, salted=salt is not None)
    binding = DatasetBinding(identity={"id": "some/rows"}, rows=len(keys), key=scheme, classes=classes)
    options = {"name": "rows", "loss_reduction": "mean"} | options
    save(folder, table, dataset=binding, rows=Rows(keys, digests), **options)
    return load(folder)


def table_dataset(x=X, y=Y, names="abcd"):
    features = Features({"x": List(Value("float32")), "label": ClassLabel(names=list(names))})
    return Dataset.from_dict({"x": x.tolist(), "label": y.tolist()}, features=features)
