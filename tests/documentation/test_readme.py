"""What the README says is true: its example runs, its map is the tree, and every command and setting is named."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import typer.main
from huggingface_hub import HfApi
from PIL import Image

from commentary_hub import artefact, recipes
from commentary_hub.cli._main import build_app
from commentary_hub_server.settings import variables
from tests.server.hub.running import running

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def fenced(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_twenty_lines_run(tmp_path):
    code = fenced("python")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 22
    with running(tmp_path / "hub") as hub:
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": hub.token("ada"),
            "HF_HOME": str(tmp_path / "hf"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "server")]),
            "COMMENTARY_HUB_CACHE": str(tmp_path / "cache"),
        }
        command = [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=250
        )
        assert done.returncode == 0, done.stderr
        assert [one.id for one in HfApi(endpoint=hub.url, token=False).list_datasets()] == ["ada/digits-weights"]


def pictures(folder, *, start, count):
    """Pictures of three classes, none of them in two folders, in a folder for each class."""
    for number in range(start, start + count):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 36, 3), dtype=np.uint8)
        place = folder / "abc"[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number}.png")


def test_the_lines_for_data_of_your_own_run_and_go_on(tmp_path):
    pictures(tmp_path / "leaves", start=0, count=30)
    pictures(tmp_path / "leaves-checked", start=100, count=9)
    code = fenced("python")[1]
    for steps, fewer in (('"inner_steps": 100', '"inner_steps": 2'), ('"outer_steps": 60', '"outer_steps": 2')):
        assert steps in code
        code = code.replace(steps, fewer)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "hf")}
    ended = code.index("kept.remove()")
    for lines in (code[:ended], code):  # the second time there is a checkpoint, as where the first was killed
        command = [sys.executable, "-W", "error", "-c", lines]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=250
        )
        assert done.returncode == 0, done.stderr
        assert bool(list((tmp_path / "checkpoints").iterdir())) == (lines != code)
    stored = artefact.load(tmp_path / "leaves-weights")
    assert (stored.manifest.dataset.identity.id, len(stored.rows.keys)) == ("ada/leaves", 30)


def test_the_recipe_describes_a_run():
    (text,) = fenced("toml")
    recipe = recipes.Recipe.from_toml(text)
    assert recipe.evaluation is not None
    assert recipes.check(recipe, steps=2) < 1e-3


def test_what_is_said_of_the_reference_commentaries_is_in_their_evidence():
    outcomes = [json.loads(path.read_text())["outcome"] for path in (ROOT / "cards").glob("*/evidence.json")]
    words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    said = (
        f"Of the {words[len(outcomes)]} reference commentaries in [cards](cards), "
        f"{words[outcomes.count('no_difference')]} make no difference by the rule that was fixed before the run, and "
        f"{words[outcomes.count('helps')]} help."
    )
    assert said in " ".join(README.split())


def test_the_map_is_the_tree():
    drawn = next(block for block in fenced("text") if block.startswith("commentary_hub/"))
    for folder in (ROOT / "commentary_hub", ROOT / "server" / "commentary_hub_server"):
        rooms = {path.parent.name for path in folder.glob("*/__init__.py")}
        named = set(re.findall(r"\s+([a-z_]+)/ ", drawn, re.MULTILINE))
        assert rooms <= named, f"not on the map: {sorted(rooms - named)}"
    for name in re.findall(r"^([a-z_.]+)/ ", drawn, re.MULTILINE):
        assert (ROOT / name).is_dir(), f"{name}/ is on the map and not in the tree"


def commands(command, path=()):
    children = getattr(command, "commands", {})
    if not children:
        yield " ".join(path)
    for name, child in children.items():
        yield from commands(child, (*path, name))


def test_every_command_is_named():
    missing = [one for one in commands(typer.main.get_command(build_app())) if f"commentary-hub {one}" not in README]
    assert not missing


def test_every_setting_of_the_server_is_named_with_its_default():
    for name, default, _ in variables():
        line = next((line for line in README.splitlines() if line.startswith(f"| `{name}`")), None)
        assert line is not None, name
        assert not default or f"`{default}`" in line, f"{name}: {line}"


def test_every_variable_that_the_library_reads_is_named():
    read = set()
    for path in (ROOT / "commentary_hub").rglob("*.py"):
        read |= set(re.findall(r'"(COMMENTARY_HUB_[A-Z_]+)"', path.read_text()))
    assert read
    assert not {name for name in read if name not in README}


def test_every_verb_of_make_that_the_readme_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"[`$] ?make ([a-z-]+)", README))
    assert {"demo", "test", "check", "install"} <= named <= targets


def test_every_file_that_the_readme_links_to_exists():
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    assert all((ROOT / link).exists() for link in links), [link for link in links if not (ROOT / link).exists()]
