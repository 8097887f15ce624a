"""``learn``: where it computes, and that nothing is replaced by accident."""

import json

import numpy as np
import pytest
import torch

from commentary_hub import artefact, recipes
from commentary_hub.errors import Interrupted
from commentary_hub.learning import _device
from tests.cli.test_errors import one_line
from tests.cli.test_evaluate import RECIPE


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def two_gpus(monkeypatch):
    devices = [torch.device("cpu"), torch.device("cuda", 0), torch.device("cuda", 1)]
    monkeypatch.setattr(_device, "_devices", lambda: devices)


def stop(report):
    raise KeyboardInterrupt


def test_a_commentary_and_its_evidence_are_not_replaced_unless_that_is_said(call, recipe, tmp_path):
    out = tmp_path / "out"
    assert call("learn", recipe, "--out", out)[0] == 0
    assert call("evaluate", out, "--json")[0] == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for more in ((), ("--restart",)):
        code, printed, err = call("learn", recipe, "--out", out, *more)
        assert (code, printed) == (2, "")
        one_line(err, f"{out}/ already holds tiny: choose another --out, or pass --overwrite")
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    recipe.write_text(RECIPE.replace('"tiny"', '"other"'))
    assert call("learn", recipe, "--out", out, "--overwrite")[0] == 0
    stored = artefact.load(out)
    assert (stored.manifest.name, stored.evidence) == ("other", None)
    assert call("learn", recipe, "--out", out, "--check")[0] == 0, "a check writes nothing"


def test_what_is_no_sound_artefact_is_not_replaced_either(call, recipe, tmp_path):
    (tmp_path / "commentary.json").write_text("{}")
    code, _, err = call("learn", recipe, "--out", tmp_path)
    assert code == 2
    one_line(err, "already holds", "--overwrite")


def test_a_file_is_no_place_for_an_artefact(call, recipe, tmp_path):
    before = recipe.read_bytes()
    code, out, err = call("learn", recipe, "--out", recipe)
    assert (code, out) == (1, "")
    one_line(err, f"{recipe} is a file, not a folder: choose another --out")
    assert recipe.read_bytes() == before


def test_imported_scores_do_not_replace_what_was_learned(call, recipe, tmp_path):
    out = tmp_path / "out"
    assert call("learn", recipe, "--out", out)[0] == 0
    np.savez(tmp_path / "scores.npz", scores=np.linspace(0, 1, 1797))
    command = ["import", "npz", tmp_path / "scores.npz", "--dataset", "sklearn:digits", "--out", out, "--useful"]
    code, _, err = call(*command)
    assert code == 2
    one_line(err, "already holds tiny", "--overwrite")
    code, _, err = call(*command, "--overwrite")
    assert code == 0, err
    assert artefact.load(out).manifest.name == "out"


def test_an_interrupted_run_goes_on_without_more_words(call, recipe, tmp_path):
    with pytest.raises(Interrupted):
        recipes.run(recipes.Recipe.read(recipe), tmp_path / "out", progress=stop)
    code, out, err = call("learn", recipe, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    assert json.loads(out)["manifest"]["name"] == "tiny"


def test_a_checkpoint_of_another_recipe_is_one_line(call, recipe, tmp_path):
    with pytest.raises(Interrupted):
        recipes.run(recipes.Recipe.read(recipe), tmp_path / "out", progress=stop)
    recipe.write_text(RECIPE.replace("learning_rate = 0.3", "learning_rate = 0.2"))
    code, _, err = call("learn", recipe, "--out", tmp_path / "out")
    assert code == 1
    one_line(err, str(tmp_path / "out"), "another recipe", "--restart")
    assert call("learn", recipe, "--out", tmp_path / "out", "--restart")[0] == 0


@pytest.mark.parametrize("command", ["learn", "check", "evaluate", "verify"])
def test_a_device_that_is_not_there_is_one_line_that_says_which_are(call, recipe, tmp_path, command):
    if command in {"learn", "check"}:
        arguments = ["learn", recipe, "--out", tmp_path / "out", *(["--check"] if command == "check" else [])]
    else:
        arguments = [command, tmp_path / "no-artefact"]
    code, out, err = call(*arguments, "--device", "cuda:99")
    assert (code, out) == (1, "")
    one_line(err, "'cuda:99'", "choose from cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "verb"),
    [(["learn"], "run"), (["learn", "--check"], "check"), (["evaluate"], "evaluate"), (["verify"], "verify")],
)
def test_the_device_reaches_what_computes(call, recipe, tmp_path, monkeypatch, two_gpus, arguments, verb):
    (tmp_path / "made").mkdir()
    recipes.run(recipes.Recipe.from_toml(RECIPE), tmp_path / "made", recipe_toml=RECIPE)
    given = []

    def asked(*_, device, **__):
        given.append(str(device))
        raise Interrupted("far enough")

    monkeypatch.setattr(recipes, verb, asked)
    command, *more = arguments
    place = [recipe, "--out", tmp_path / "out"] if command == "learn" else [tmp_path / "made"]
    code, _, err = call(command, *place, *more, "--device", "cuda:1")
    assert code == 1
    one_line(err, "far enough")
    assert given == ["cuda:1"]
