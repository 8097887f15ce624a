"""The library with the oldest torch and huggingface_hub that it promises, in an environment of its own."""

import os
import re
import shutil
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("artefact", "commentaries", "data", "hub", "learning", "manifest", "networks", "reuse")


def oldest(name):
    """``name==version`` by the lower bound in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["learn"]]
    bounds = [re.match(rf"{name}>=([\d.]+)", text) for text in wanted]
    return f"{name}=={next(bound[1] for bound in bounds if bound)}"


@pytest.mark.compat
def test_the_oldest_torch_and_client_that_are_promised(tmp_path):
    python, environment = tmp_path / "venv" / "bin" / "python", {**os.environ, "OMP_NUM_THREADS": "1"}
    venv.create(tmp_path / "venv", with_pip=True)
    pins = [oldest(name) for name in ("torch", "torchvision", "huggingface_hub")]
    for arguments in (
        ["pip", "install", "-q", "--upgrade", "pip>=25.1"],
        ["pip", "install", "-q", f"{ROOT}[learn,server]", "--group", f"{ROOT}/pyproject.toml:test", *pins],
        ["pytest", "-q", "-p", "no:cacheprovider", "-W", "default", "--ignore=tests/reuse/integrations",
         *(f"tests/{room}" for room in ROOMS)],
    ):  # fmt: skip
        done = subprocess.run(
            [python, "-m", *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    shown = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    for pin in pins:
        assert pin.replace("_", "-") in shown.replace("_", "-")
    shutil.rmtree(tmp_path / "venv")  # some gigabytes
