"""Older clients, each in an environment of its own made from the package index, against a running hub."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.server.hub.running import running

JOURNEY = Path(__file__).with_name("journey.py")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with running(tmp_path_factory.mktemp("hub")) as one:
        yield one


def travel(python, hub, folder, **more):
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "HF_HOME": str(folder / "hf"),
        "HF_ENDPOINT": hub.url,
    }
    environment |= {"HF_TOKEN": hub.token("ada"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"} | more
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [python, str(JOURNEY), str(folder)], env=environment, capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])["huggingface_hub"]


@pytest.mark.compat
@pytest.mark.parametrize("version", ["0.36.0", "1.0.0", "1.19.0"])
def test_the_journey_with(version, hub, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"huggingface_hub=={version}"],
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert travel(python, hub, tmp_path / "default", JOURNEY="default") == version
    assert travel(python, hub, tmp_path / "lfs", JOURNEY="lfs", HF_HUB_DISABLE_XET="1") == version


@pytest.mark.parametrize("variables", [{"JOURNEY": "xet"}, {"JOURNEY": "lfs", "HF_HUB_DISABLE_XET": "1"}])
def test_the_journey_with_the_installed_client(variables, hub, tmp_path):
    travel(sys.executable, hub, tmp_path, **variables)
