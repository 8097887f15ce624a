"""Where only a part of the package is installed: a command that needs another one says which, in one line."""

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement

from commentary_hub.cli._missing import missing_extra
from tests.cli.test_cycle import RECIPE, ROOT
from tests.cli.test_errors import GOLDEN, one_line

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# The modules that these distributions bring, where they have another name.
MODULES = {"markdown-it-py": "markdown_it", "python-multipart": "multipart", "scikit-learn": "sklearn"}


def without(tmp_path, modules, *arguments):
    """The command in a process of its own where these modules cannot be imported."""
    (tmp_path / "recipe.toml").write_text(RECIPE)
    code = f"import sys; sys.modules.update(dict.fromkeys({modules!r})); from commentary_hub.cli import main; main()"
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "server")]), "COMMENTARY_HUB_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | paths, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("module", "extra", "arguments"),
    [
        ("uvicorn", "server", ["serve"]),
        ("sqlalchemy", "server", ["user", "list"]),
        ("fastapi", "server", ["fsck"]),
        ("torch", "learn", ["learn", "recipe.toml"]),
        ("torch", "learn", ["learn", "recipe.toml", "--check"]),
        ("datasets", "learn", ["evaluate", GOLDEN]),
        ("torch", "learn", ["export", GOLDEN, "weights.csv"]),
        ("torch", "learn", ["show", GOLDEN, "--dataset", "sklearn:digits"]),
        ("matplotlib", "demo", ["show", GOLDEN, "--pictures", "pictures"]),
        ("tensorboard", "integrations", ["learn", "recipe.toml", "--tensorboard", "logs"]),
    ],
)
def test_a_command_without_its_part_says_how_to_get_it(tmp_path, module, extra, arguments):
    code, out, err = without(tmp_path, [module], *arguments)
    assert (code, out) == (1, ""), err
    one_line(err, module, f"pip install 'commentary-hub[{extra}]'")


def test_programs_are_told_in_json(tmp_path):
    code, out, err = without(tmp_path, ["uvicorn", "fastapi"], "user", "list", "--json")
    assert code == 1
    assert json.loads(out)["error"] == "MissingExtra"
    one_line(err, "commentary-hub[server]")


@pytest.mark.parametrize("extra", ["server", "learn", "demo", "integrations"])
def test_every_dependency_is_known_by_the_module_that_it_brings(extra):
    for line in EXTRAS[extra]:
        name = Requirement(line).name
        module = MODULES.get(name, re.sub("-", "_", name))
        found = missing_extra(ModuleNotFoundError(f"No module named '{module}.inside'", name=f"{module}.inside"))
        assert f"commentary-hub[{extra}]" in found.message
        assert module in found.message


def test_what_no_part_brings_is_named_and_what_is_missing_of_ours_is_no_extra():
    assert "needs strange, which is not installed" in missing_extra(ModuleNotFoundError(name="strange")).message
    assert missing_extra(ModuleNotFoundError(name="commentary_hub.gone")) is None
