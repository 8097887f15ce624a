"""``show --pictures``: what a commentary says, as files; with ``--examples`` also what needs its dataset."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from typer.testing import CliRunner

from commentary_hub import recipes
from commentary_hub.artefact import Rows, load, save
from commentary_hub.cli._main import build_app
from commentary_hub.commentaries import ExampleWeights
from commentary_hub.data import content_keys, open_examples, target_digests
from commentary_hub.errors import UsageError, WrongDataset
from commentary_hub.manifest import DatasetBinding, KeyScheme

RECIPE = """
[commentary]
name = "digits"
kind = "{kind}"
parameters = {parameters}
[data]
dataset = "sklearn:digits"
train = 60
validation = 40
test = 20
[[students]]
name = "mlp"
settings = {{ inputs = 64, hidden = [4], classes = 10 }}
[method]
name = "unrolled"
[inner]
learning_rate = 0.1
steps = 1
batch_size = 16
[outer]
learning_rate = 0.01
steps = 1
"""
MASK = "{ channels = 1, sigma = 2.0, settings = { width = 2 } }"
NETWORK = '{ network = "mlp", settings = { inputs = 64, hidden = [] }, labels = "index", classes = 10 }'


@pytest.mark.parametrize(
    ("kind", "parameters", "plain", "more"),
    [
        ("example_weights", "{}", ["weights.png"], ["highest.png", "lowest.png", "samples.png", "weights.png"]),
        ("label_blend", "{ classes = 10 }", ["blend.png"], ["blend.png"]),
        ("attention_mask", MASK, [], ["masks.png"]),
        ("weight_network", NETWORK, [], ["curves.png", "highest.png", "lowest.png", "samples.png", "weights.png"]),
    ],
)
def test_every_kind_is_drawn(tmp_path, kind, parameters, plain, more):
    text = RECIPE.format(kind=kind, parameters=parameters)
    recipes.run(recipes.Recipe.from_toml(text), tmp_path / "one", recipe_toml=text)
    for options, expected in (([], plain), (["--examples"], more)):
        folder = tmp_path / f"pictures{len(options)}"
        command = ["show", str(tmp_path / "one"), "--pictures", str(folder), "--json", *options]
        done = CliRunner().invoke(build_app(), command, catch_exceptions=False)
        assert done.exit_code == 0
        assert sorted(path.name for path in folder.iterdir()) == expected
        assert len(json.loads(done.stdout)["pictures"]) == len(expected)


def shown(*arguments):
    done = CliRunner().invoke(build_app(), ["show", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


@pytest.fixture(scope="module")
def weighed(tmp_path_factory):
    """An artefact whose weights are known: the higher the digit's number, the higher."""
    folder = tmp_path_factory.mktemp("weighed") / "digits"
    digits = open_examples("sklearn:digits", limit=40)
    table = ExampleWeights(rows=40)
    with torch.no_grad():
        table.logits.copy_(torch.linspace(-2, 2, 40)[:, None])
    binding = DatasetBinding(identity=digits.identity, rows=40, key=KeyScheme(form="numeric"), classes=digits.classes)
    rows = Rows(digits.keys, digits.target_digests)
    save(folder, table, name="digits", dataset=binding, loss_reduction="mean", rows=rows)
    return folder


def test_the_outermost_examples_are_listed_in_order(weighed):
    answer = json.loads(shown(weighed, "--dataset", "sklearn:digits", "--top", 3, "--json"))
    labels = open_examples("sklearn:digits", limit=40).targets
    highest, lowest = answer["examples"]["highest"], answer["examples"]["lowest"]
    assert [one["position"] for one in highest] == [39, 38, 37]
    assert [one["position"] for one in lowest] == [0, 1, 2]
    assert [one["label"] for one in highest] == [str(int(labels[place])) for place in (39, 38, 37)]
    assert highest[0]["weight"] == pytest.approx(torch.sigmoid(torch.tensor(2.0)).item())
    text = shown(weighed, "--dataset", "sklearn:digits", "--top", 3)
    for words in ("example_weights", "sklearn:digits", "no evidence", "3 examples of highest weight", "64 numbers"):
        assert words in text


def row_of(key):
    """The first row of the digits with this content key."""
    return (open_examples("sklearn:digits").keys == key).all(axis=1).nonzero()[0][0]


def test_weighed_examples_of_the_recipe_are_said_by_their_row_in_the_dataset(tmp_path):
    text = RECIPE.format(kind="example_weights", parameters="{}")
    train = recipes.open_parts(recipes.Recipe.from_toml(text).data).train
    table = ExampleWeights(rows=60)
    with torch.no_grad():
        table.logits.copy_(torch.linspace(-2, 2, 60)[:, None])
    binding = DatasetBinding(identity=train.identity, rows=60, key=KeyScheme(form="numeric"), classes=train.classes)
    rows, kept = Rows(train.keys, train.target_digests), {"loss_reduction": "mean", "recipe_toml": text}
    save(tmp_path, table, name="digits", dataset=binding, rows=rows, **kept)
    answer = json.loads(shown(tmp_path, "--examples", "--top", 3, "--json"))["examples"]
    for end, places in (("highest", (59, 58, 57)), ("lowest", (0, 1, 2))):
        assert [one["position"] for one in answer[end]] == [row_of(train.keys[place]) for place in places]
        assert [one["label"] for one in answer[end]] == [str(int(train.targets[place])) for place in places]
        assert {one["summary"] for one in answer[end]} == {"64 numbers"}
    assert f"{answer['highest'][0]['position']:,}" in shown(tmp_path, "--examples", "--top", 3)


def test_examples_that_a_network_weighs_are_said_by_their_row_in_the_split_that_taught_it(tmp_path):
    digits = open_examples("sklearn:digits")
    for split, rows in (("train", slice(0, 200)), ("validation", slice(200, 400))):
        table = {"x": digits.inputs[rows].flatten(1).tolist(), "label": digits.targets[rows].tolist()}
        Dataset.from_dict(table).to_parquet(tmp_path / "data" / f"{split}.parquet")
    text = RECIPE.format(kind="weight_network", parameters=NETWORK).replace("test = 20\n", "")
    text = text.replace("sklearn:digits", str(tmp_path / "data")).replace("[[", 'validation_split = "validation"\n[[')
    recipes.run(recipes.Recipe.from_toml(text), tmp_path / "one", recipe_toml=text)
    answer = json.loads(shown(tmp_path / "one", "--examples", "--top", 20, "--json"))["examples"]
    checked = open_examples(tmp_path / "data", split="validation")
    found = [one["position"] for one in answer["highest"] + answer["lowest"]]
    taught = recipes.open_parts(recipes.Recipe.from_toml(text).data).validation
    assert {bytes(key) for key in checked.keys[found]} == {bytes(key) for key in taught.keys}
    assert [one["label"] for one in answer["highest"]] == [str(int(checked.targets[at])) for at in found[:20]]


def test_texts_are_quoted_and_harmless(tmp_path):
    texts = [f"[bold]sentence[/] number {number}" for number in range(6)]
    data = Dataset.from_dict({"text": texts, "label": [0, 1] * 3})
    data.to_parquet(tmp_path / "texts.parquet")
    table = ExampleWeights(rows=6)
    binding = DatasetBinding(identity={"id": "some/texts"}, rows=6, key=KeyScheme(form="text"))
    rows = Rows(content_keys(texts), target_digests([0, 1] * 3))
    save(tmp_path / "a", table, name="texts", dataset=binding, loss_reduction="mean", rows=rows)
    assert "[bold]sentence[/] number" in shown(tmp_path / "a", "--dataset", tmp_path / "texts.parquet", "--top", 1)


def test_pictures_go_into_the_card(weighed):
    before = load(weighed).tensor_digest
    answer = json.loads(shown(weighed, "--dataset", "sklearn:digits", "--attach", "--json"))
    names = {Path(path).name for path in answer["pictures"]}
    assert names == {"weights.png", "highest.png", "lowest.png", "samples.png"}
    card = (weighed / "README.md").read_text()
    assert all(f"](plots/{name})" in card for name in names)
    assert load(weighed).tensor_digest == before


def test_wrong_use_is_said(tmp_path, weighed):
    for options, sentence in (
        (["--examples", "--dataset", "x"], "leave it out"),
        (["--pictures", str(weighed / "README.md")], "is a file"),
    ):
        with pytest.raises(UsageError, match=sentence):
            CliRunner().invoke(build_app(), ["show", str(weighed), *options], catch_exceptions=False)
    with pytest.raises(UsageError, match="on the hub"):
        CliRunner().invoke(build_app(), ["show", "ada/digits", "--attach"], catch_exceptions=False)
    Dataset.from_dict({"x": [[1.0, 2.0]] * 4, "label": [0] * 4}).to_parquet(tmp_path / "x.parquet")
    command = ["show", str(weighed), "--dataset", str(tmp_path / "x.parquet")]
    with pytest.raises(WrongDataset):
        CliRunner().invoke(build_app(), command, catch_exceptions=False)
