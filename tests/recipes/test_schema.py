"""What a recipe says wrongly: the first mistake, by its place and with the mend."""

import re

import pytest
import torch
from sklearn.datasets import load_digits

from commentary_hub import recipes
from commentary_hub.errors import InputError, RecipeError
from tests.cli.test_evaluate import RECIPE


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[outer]", "[outter]", "recipe.toml: outter: there is no such name; did you mean outer?"),
        ("learning_rate = 0.1", "learningrate = 0.1", "inner.learningrate: there is no such name; did you mean"),
        ("[evaluation]\n", "[evaluation]\nseed = 2\n", "evaluation.seed: there is no such name; did you mean seeds?"),
        ("noise =", "noize =", "data.corruption.noize: there is no such name; did you mean noise?"),
        (
            "[[students]]\n",
            "[[students]]\nwidth = 4\n",
            "students.0.width: there is no such name; known here are name,",
        ),
        ("learning_rate = 0.1", 'learning_rate = "0.3"', "inner.learning_rate: Input should be a valid number"),
        ("learning_rates = [0.1]", "learning_rates = [true]", "evaluation.learning_rates.0: Input should be a valid"),
        ("steps = 2", "steps = true", "inner.steps: Input should be a valid integer"),
        ("steps = 5", "steps = 5.0", "evaluation.steps: Input should be a valid integer"),
        ("example_weights", "mixture_weights", "commentary.kind: mixture_weights cannot be learned from a recipe, "),
        ("example_weights", "support_weights", "commentary.kind: support_weights cannot be learned from a recipe, "),
    ],
)
def test_the_first_mistake_is_named_with_its_mend(old, new, words):
    assert old in RECIPE
    with pytest.raises(RecipeError, match=re.escape(words)) as caught:
        recipes.Recipe.from_toml(RECIPE.replace(old, new, 1))
    assert "\n" not in str(caught.value)


def test_whole_numbers_and_arrays_are_what_they_say():
    text = RECIPE.replace("learning_rate = 0.1", "learning_rate = 1").replace("competitors = false", "competitors = []")
    read = recipes.Recipe.from_toml(text.replace("train = 80", "train = 80\nsize = [8, 8]"))
    assert (read.inner.learning_rate, read.data.size, read.evaluation.competitors) == (1.0, (8, 8), ())


def test_a_mark_at_the_start_of_the_file_is_read_over(tmp_path):
    (path := tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8-sig")
    assert recipes.Recipe.read(path) == recipes.Recipe.from_toml(RECIPE)


def test_the_home_directory_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    load_digits(as_frame=True).frame.head(300).to_csv(tmp_path / "digits.csv", index=False)
    section = recipes.Recipe.from_toml(RECIPE).data.model_copy(update={"dataset": "~/digits.csv", "targets": "target"})
    assert recipes.open_parts(section).train.inputs.shape == torch.Size([80, 64])
    with pytest.raises(RecipeError, match=r"data.dataset: '~nobody-\?/a': .* Give the whole path"):
        recipes.open_parts(section.model_copy(update={"dataset": "~nobody-?/a"}))


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_an_artefact_cannot_lie_in_a_file(tmp_path, monkeypatch, below):
    (file := tmp_path / "file").write_text("mine")
    monkeypatch.setattr("commentary_hub.recipes._run.open_parts", lambda *_, **__: pytest.fail("it began"))
    with pytest.raises(InputError, match=f"{file} is a file, not a folder: choose another"):
        recipes.run(recipes.Recipe.from_toml(RECIPE), file / below, resume=False)
    assert file.read_text() == "mine"
