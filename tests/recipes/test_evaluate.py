"""An evaluation from a recipe: what it cannot measure is said before anything is learned, filtered or trained."""

from dataclasses import replace

import pytest

from commentary_hub import artefact, evidence, recipes
from commentary_hub.errors import CommentaryHubError, EvidenceError, RecipeError

TEXT = """
[commentary]
name = "digits"
kind = "example_weights"
[data]
dataset = "sklearn:digits"
train = 120
validation = 40
selection = 40
test = 60
corruption = { noise = "pairwise", share = 0.4 }
[[students]]
name = "mlp"
settings = { inputs = 64, hidden = [], classes = 10 }
[method]
name = "unrolled"
[inner]
learning_rate = 0.1
steps = 2
batch_size = 16
[outer]
learning_rate = 0.3
steps = 2
[evaluation]
steps = 3
batch_size = 16
learning_rates = [0.1]
seeds = 2
tuning_seeds = 1
points = 1
learning_runs = 2
students = [{ name = "mlp", settings = { inputs = 64, hidden = [], classes = 10 } }]
"""
BLEND = TEXT.replace('"example_weights"', '"label_blend"\nparameters = { classes = 10 }')


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A table and a blend that were learned by these recipes."""
    found = {}
    for name, text in (("table", TEXT), ("blend", BLEND)):
        folder = tmp_path_factory.mktemp(name)
        recipes.run(recipes.Recipe.from_toml(text), folder)
        found[name] = artefact.load(folder)
    return found


@pytest.fixture
def untouched(monkeypatch):
    """Nothing may be learned, filtered or trained."""
    unwanted = lambda *args, **options: pytest.fail("work began")
    monkeypatch.setattr("commentary_hub.recipes._evaluate.run", unwanted)
    monkeypatch.setattr(evidence, "cleanlab_filter", unwanted)
    monkeypatch.setattr(evidence, "evaluate", unwanted)


END = "classes = 10 } }]"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (END, "classes = 9 } }]", r"student 'mlp' answers \[2, 9\] .* expected \[2, 10\]"),
        (END, "hiden = [3] } }]", "hiden"),
        ('students = [{ name = "mlp"', 'students = [{ name = "mpl"', "mpl"),
        ("points = 1", 'points = 1\ncompetitors = ["mixup"]', "there is no competitor mixup here: there are cleanlab"),
        (
            "validation = 40",
            "validation = 10",
            "not those that taught digits: it knows 40, 10 are given",
        ),
        ("test = 60", "test = 0", "data.selection and data.test"),
    ],
)
def test_what_an_evaluation_cannot_measure_is_said_before_anything_runs(stored, untouched, old, new, words):
    assert old in TEXT
    with pytest.raises(CommentaryHubError, match=words):
        recipes.evaluate(stored["table"], recipes.Recipe.from_toml(TEXT.replace(old, new, 1)))


def test_one_seed_makes_no_pairs(stored, untouched):
    with pytest.raises(RecipeError, match=r"evaluation\.seeds"):
        recipes.Recipe.from_toml(TEXT.replace("\nseeds = 2", "\nseeds = 1"))
    with pytest.raises(EvidenceError, match="at least 2 seeds"):
        recipes.evaluate(stored["table"], recipes.Recipe.from_toml(TEXT), seeds=1)


def test_a_kind_without_a_table_is_evaluated_on_its_own_split_alone(stored, untouched):
    """Its training examples cannot be told from the test's: only their fingerprint is known."""
    for change in ("train = 100", "train = 121"):
        with pytest.raises(RecipeError, match="training examples are not those that digits was learned with"):
            recipes.evaluate(stored["blend"], recipes.Recipe.from_toml(BLEND.replace("train = 120", change)))


def test_trusted_examples_are_the_very_ones(stored):
    parts = recipes.open_parts(recipes.Recipe.from_toml(TEXT).data)
    sets = {"train": parts.train, "selection": parts.selection, "test": parts.test}
    whole = evidence.Trial(stored["table"], trusted=parts.validation, **sets)
    replace(whole, trusted=parts.validation.subset(list(range(40))[::-1]))  # in any order
    with pytest.raises(EvidenceError, match="it knows 40, 20 are given, 20 of them the same"):
        replace(whole, trusted=parts.validation.subset(range(20)))


def test_an_evaluation_of_two_learning_runs_ends(stored):
    found = recipes.evaluate(stored["blend"], recipes.Recipe.from_toml(BLEND))
    assert found.protocol.steps == 3
