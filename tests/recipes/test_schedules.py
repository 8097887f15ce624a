"""What a recipe says of schedules, clipping and students' optimisers reaches the learner and the evaluation."""

import pytest

from commentary_hub import artefact, recipes
from commentary_hub.errors import RecipeError

TEXT = """
[commentary]
name = "digits"
kind = "label_blend"
parameters = { classes = 10 }
[data]
dataset = "sklearn:digits"
train = 60
validation = 40
selection = 30
test = 60
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
optimiser = "sgd"
learning_rate = 1.0
steps = 4
average_last = 0
schedule = "cosine"
clip_norm = 1e-4
[evaluation]
steps = 3
batch_size = 16
learning_rates = [0.1]
optimiser = "adam"
schedule = "cosine"
seeds = 2
tuning_seeds = 1
points = 3
competitors = false
[[evaluation.students]]
name = "mlp"
settings = { inputs = 64, hidden = [], classes = 10 }
"""


def travelled(folder, text):
    recipes.run(recipes.Recipe.from_toml(text), folder, recipe_toml=text)
    return float((artefact.load(folder).commentary.logits + 1).norm())


def test_the_hypergradient_is_clipped_and_its_rate_falls(tmp_path):
    # four steps of length 1e-4 at rates 1, .85, .5 and .15: half of what a constant rate would allow
    falling = travelled(tmp_path / "cosine", TEXT)
    assert 1.5e-4 < falling <= 2.51e-4
    constant = travelled(tmp_path / "constant", TEXT.replace('schedule = "cosine"\nclip', "clip"))
    assert falling < constant <= 4.01e-4
    assert travelled(tmp_path / "free", TEXT.replace("clip_norm = 1e-4", "")) > constant


def test_students_are_trained_as_the_recipe_says(tmp_path):
    recipes.run(recipes.Recipe.from_toml(TEXT), tmp_path / "one", recipe_toml=TEXT)
    evidence = recipes.evaluate(artefact.load(tmp_path / "one"))
    said = evidence.protocol.parameters["settings"]
    assert said["optimiser"]["name"] == "adam"
    assert (said["schedule"], said["tuning_seeds"], said["points"]) == ("cosine", 1, 3)


@pytest.mark.parametrize(
    ("old", "new"), [("cosine", "linear"), ("clip_norm = 1e-4", "clip_norm = 0"), ("adam", "lion")]
)
def test_other_words_are_refused(old, new):
    with pytest.raises(RecipeError, match=r"outer\.|evaluation\."):
        recipes.Recipe.from_toml(TEXT.replace(old, new))
