"""``show --pictures``: what a commentary says, as files; with ``--examples`` also what needs its dataset."""

import json

import pytest
from typer.testing import CliRunner

from commentary_hub import recipes
from commentary_hub.cli._main import build_app
from commentary_hub.errors import UsageError

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
        ("example_weights", "{}", ["weights.png"], ["highest.png", "lowest.png", "weights.png"]),
        ("label_blend", "{ classes = 10 }", ["blend.png"], ["blend.png"]),
        ("attention_mask", MASK, [], ["masks.png"]),
        ("weight_network", NETWORK, [], ["curves.png", "highest.png", "lowest.png", "weights.png"]),
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


def test_examples_without_a_place_for_pictures_are_wrong_use(tmp_path):
    with pytest.raises(UsageError, match="--pictures"):
        CliRunner().invoke(build_app(), ["show", str(tmp_path), "--examples"], catch_exceptions=False)
