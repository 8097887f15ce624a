"""A checkpoint goes on with the recipe that wrote it, and with no other; from Python as from the command line."""

import pytest
import torch
from torch import nn

from commentary_hub import recipes
from commentary_hub.commentaries import ExampleWeights
from commentary_hub.data import open_examples, split_examples
from commentary_hub.errors import InputError, Interrupted
from commentary_hub.learning import SGD, Student, Unrolled, learn
from tests.cli.test_evaluate import RECIPE


def stop(report):
    raise KeyboardInterrupt


@pytest.fixture
def torn(tmp_path):
    """A folder with the checkpoint of a run that was interrupted after its first step."""
    with pytest.raises(Interrupted):
        recipes.run(recipes.Recipe.from_toml(RECIPE), tmp_path, progress=stop)
    assert (tmp_path / "checkpoint.safetensors").is_file()
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        ("learning_rate = 0.3", "learning_rate = 0.2"),
        ("steps = 2\n[evaluation]", "steps = 3\n[evaluation]"),
        ("share = 0.5", "share = 0.4"),
        ('kind = "example_weights"', 'kind = "example_weights"\nparameters = { stages = 2 }'),
        ("hidden = [4], classes = 10 }\n[method]", "hidden = [5], classes = 10 }\n[method]"),
        ('name = "unrolled"', 'name = "unrolled"\nsettings = { memory = "full" }'),
    ],
)
def test_another_recipe_does_not_go_on_with_it(torn, change):
    assert change[0] in RECIPE
    other = recipes.Recipe.from_toml(RECIPE.replace(*change))
    with pytest.raises(InputError, match="was written by another recipe: --restart begins anew, or restore"):
        recipes.run(other, torn)
    assert (torn / "checkpoint.safetensors").is_file()
    assert recipes.run(other, torn, resume=False).name == "tiny"


@pytest.mark.parametrize(
    "change",
    [
        ('name = "tiny"', 'name = "renamed"\ndescription = "Better words."\nlicence = "mit"'),
        ("seeds = 2", "seeds = 9"),
        ('dataset = "sklearn:digits"', 'dataset = "sklearn:digits"\nknown_as = "ada/digits"'),
        ("train = 80\nvalidation = 20", "validation = 20\ntrain = 80"),
    ],
)
def test_words_about_it_and_the_evaluation_may_change(torn, change):
    assert change[0] in RECIPE
    steps = []
    other = recipes.Recipe.from_toml(RECIPE.replace(*change))
    recipes.run(other, torn, progress=lambda report: steps.append(report.step))
    assert steps == [2]


def test_another_recipe_is_refused_before_the_dataset_is_opened(torn):
    other = recipes.Recipe.from_toml(RECIPE.replace("sklearn:digits", "no/such/folder"))
    with pytest.raises(InputError, match="written by another recipe"):
        recipes.run(other, torn)


def test_a_run_from_python_goes_on_from_a_path_that_is_text(tmp_path):
    digits = open_examples("sklearn:digits", limit=100)
    parts = split_examples(digits, {"train": 60, "validation": 40}, seed=0)

    def run(**options):
        table = ExampleWeights(rows=60)
        student = Student("linear", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
        return learn(
            table, student, **parts, method=Unrolled(), inner=SGD(lr=0.1), inner_steps=2, batch_size=16, outer_steps=3,
            **options,
        )  # fmt: skip

    file, steps = recipes.CheckpointFile(str(tmp_path / "kept")), []
    assert file.read() is None
    with pytest.raises(Interrupted):
        run(sink=file, resume=file.read(), progress=stop)
    learned = run(sink=file, resume=file.read(), progress=lambda report: steps.append(report.step))
    assert steps == [2, 3]
    assert torch.equal(learned.commentary.values(), run().commentary.values())


def test_a_checkpoint_that_cannot_be_read_is_refused(torn):
    (torn / "checkpoint.safetensors").write_bytes(b"torn")
    for read in (recipes.CheckpointFile(torn).read, recipes.CheckpointFile(torn).check):
        with pytest.raises(InputError, match="cannot be read"):
            read()
