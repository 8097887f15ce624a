"""The dataset of a recipe: under which name others know it, and that reading it is seen."""

import logging

import numpy as np
import pytest
from PIL import Image

from commentary_hub import recipes
from commentary_hub.recipes._run import learn_recipe
from commentary_hub.recipes._save import warn_of_name
from tests.cli.test_evaluate import RECIPE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures in a folder for each class."""
    root = tmp_path_factory.mktemp("data") / "leaves"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    for number, one in enumerate(pixels):
        place = root / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(place / f"{number}.png")
    return root


@pytest.fixture(autouse=True)
def _nothing_said_yet():
    warn_of_name.cache_clear()


def recipe(folder, more=""):
    text = RECIPE.partition("[evaluation]")[0].replace("selection = 40\ntest = 60\n", "")
    for old, new in (
        ('dataset = "sklearn:digits"', f'dataset = "{folder}"\n{more}'),
        ("train = 80", "train = 20"),
        ("classes = 10", "classes = 2"),
    ):
        text = text.replace(old, new)
    return recipes.Recipe.from_toml(text)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_local_copy_is_known_by_its_id_on_the_hub(folder, tmp_path, caplog):
    manifest = recipes.run(recipe(folder, 'known_as = "ada/leaves"'), tmp_path)
    assert manifest.dataset.identity.id == "ada/leaves"
    assert not warnings(caplog)


def test_a_dataset_that_nobody_can_look_for_is_warned_of_once(folder, tmp_path, caplog):
    manifest = recipes.run(recipe(folder), tmp_path)
    assert manifest.dataset.identity.id == "leaves"
    (said,) = warnings(caplog)
    assert "called only 'leaves'" in said
    assert 'known_as="owner/name"' in said


def test_saving_from_python_warns_too(folder, tmp_path, caplog):
    learned = learn_recipe(recipe(folder), recipes.open_parts(recipe(folder).data))
    assert not warnings(caplog)
    recipes.save(tmp_path, learned, name="leaves")
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(("terminal", "progress", "seen"), [("1", True, True), ("1", False, False), ("", True, False)])
def test_reading_is_seen_on_a_terminal_where_progress_is(folder, monkeypatch, capsys, terminal, progress, seen):
    monkeypatch.setenv("FORCE_COLOR", terminal)
    recipes.open_parts(recipe(folder).data, progress=progress)
    assert ("reading examples 40" in capsys.readouterr().err) == seen
