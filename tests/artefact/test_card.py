"""The lines on a card run as they stand, on what the reader's dataset gives: tuples or dictionaries."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pictures
from torch import nn
from torch.utils.data import TensorDataset

import commentary_hub
from commentary_hub.artefact import Rows, load, save
from commentary_hub.commentaries import ExampleWeights, LabelBlend, MixtureWeights
from commentary_hub.data import content_keys, target_digests, tokenise
from commentary_hub.manifest import DatasetBinding, KeyScheme, split_card

SIZE = 12
LABELS = [number % 3 for number in range(SIZE)]
PIXELS = np.random.default_rng(0).integers(0, 256, (SIZE, 6, 6, 3), dtype=np.uint8)
PICTURES = [Pictures.fromarray(pixels) for pixels in PIXELS]
TEXTS = [f"sentence number {number}" for number in range(SIZE)]
NUMBERS = torch.randn(SIZE, 5, generator=torch.Generator().manual_seed(0))


def table(folder, identity, form, values):
    scheme = DatasetBinding(identity={"id": identity}, rows=SIZE, key=KeyScheme(form=form))
    rows = Rows(content_keys(values), target_digests(LABELS))
    save(folder, ExampleWeights(rows=SIZE), name="toy", dataset=scheme, loss_reduction="mean", rows=rows)


def kind(folder, identity, commentary):
    scheme = DatasetBinding(identity={"id": identity}, rows=SIZE, key=KeyScheme(form="none"))
    save(folder, commentary, name="toy", dataset=scheme, loss_reduction="mean")


def of_the_hub(column, values, feature, transform):
    features = Features({column: feature, "label": ClassLabel(names=list("abc"))})
    data = Dataset.from_dict({column: values, "label": LABELS}, features=features)
    return data.with_transform(lambda rows: {**transform(rows), "label": rows["label"]})


def pixels(name):
    return lambda rows: {name: [torch.from_numpy(np.array(one)).float() / 255 for one in rows["image"]]}


def run(folder, monkeypatch, **given):
    """The card's lines, on the names that a reader has; what they left."""
    _, body = split_card((folder / "README.md").read_text())
    code = body.split("```python\n")[1].split("```")[0]
    monkeypatch.setattr(commentary_hub, "load", lambda _: load(folder))
    names = dict(given)
    exec(code, names)
    return names, code


@pytest.mark.parametrize(
    ("form", "values", "dataset", "student"),
    [
        ("image", PICTURES, lambda: of_the_hub("image", PICTURES, Image(), pixels("image")),
         nn.Sequential(nn.Flatten(), nn.Linear(108, 3))),
        ("text", TEXTS, lambda: of_the_hub("text", TEXTS, Value("string"),
                                           lambda rows: {"input_ids": list(tokenise(rows["text"]))}),
         nn.Sequential(nn.Embedding(70_000, 3), nn.Flatten(), nn.Linear(192, 3))),
    ],
)  # fmt: skip
def test_a_dataset_of_the_hub_gives_dictionaries(tmp_path, monkeypatch, form, values, dataset, student):
    table(tmp_path, "ada/toy", form, values)
    left, code = run(tmp_path, monkeypatch, dataset=dataset(), student=student)
    assert "commentary_row" in code
    assert left["binding"].counts.found == SIZE
    assert left["loss"].isfinite()


def test_a_dataset_of_the_hub_gives_dictionaries_to_a_kind_without_rows(tmp_path, monkeypatch):
    kind(tmp_path, "ada/toy", LabelBlend(classes=3))
    data = of_the_hub("image", PICTURES, Image(), pixels("inputs"))
    left, _ = run(tmp_path, monkeypatch, dataset=data, student=nn.Sequential(nn.Flatten(), nn.Linear(108, 3)))
    assert left["loss"].isfinite()


@pytest.mark.parametrize("identity", ["sklearn:digits", "TensorDataset"])
def test_any_other_dataset_gives_tuples(tmp_path, monkeypatch, identity):
    table(tmp_path, identity, "numeric", NUMBERS)
    left, _ = run(tmp_path, monkeypatch, dataset=TensorDataset(NUMBERS, torch.tensor(LABELS)), student=nn.Linear(5, 3))
    assert left["binding"].counts.found == SIZE
    assert left["loss"].isfinite()


def test_a_mixture_is_drawn_from(tmp_path, monkeypatch):
    kind(tmp_path, "ada/toy", MixtureWeights(sources=["news", "plays"]))
    parts = {name: Dataset.from_dict({"text": [name] * 4}) for name in ("news", "plays")}
    left, _ = run(tmp_path, monkeypatch, parts=parts)
    assert {row["text"] for row in left["mixed"]} <= {"news", "plays"}
