"""The cycle through the command line alone, each verb a process of its own, as a user's shell has it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.hub.running import running

ROOT = Path(__file__).parents[2]
RECIPE = """
[commentary]
name = "few-digits"
kind = "example_weights"
description = "A test's weights."

[data]
dataset = "sklearn:digits"
train = 120
validation = 20
selection = 20
test = 40

[data.corruption]
noise = "pairwise"
share = 0.5

[[students]]
name = "mlp"
settings = { inputs = 64, hidden = [16], classes = 10 }

[method]
name = "unrolled"

[inner]
learning_rate = 0.3
steps = 5
batch_size = 32

[outer]
learning_rate = 0.3
steps = 3

[evaluation]
steps = 5
batch_size = 32
learning_rates = [0.1, 0.3]
seeds = 2
competitors = false

[[evaluation.students]]
name = "mlp"
settings = { inputs = 64, hidden = [16], classes = 10 }
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with running(tmp_path_factory.mktemp("hub")) as one:
        yield one


def shell(tmp_path, hub, *arguments, token=None):
    """(exit code, standard output, standard error) of one command."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": token or hub.token("ada"),
        "HF_HOME": str(tmp_path / "hf"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "server")]),
        "COMMENTARY_HUB_CACHE": str(tmp_path / "cache"),
        "COLUMNS": "200",
    }
    command = [sys.executable, "-c", "from commentary_hub.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_learn_evaluate_push_find_pull_show_verify(tmp_path, hub):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    code, out, err = shell(tmp_path, hub, "learn", "recipe.toml", "--out", "made")
    assert (code, "saved few-digits to made" in out) == (0, True), err
    code, out, err = shell(tmp_path, hub, "evaluate", "made", "--json")
    assert code == 0, err
    evidence = json.loads(out)["evidence"]
    assert {row["control"] for row in evidence["measurements"]} >= {"commentary", "none", "clean_only", "shuffled"}
    code, out, err = shell(tmp_path, hub, "push", "made", "ada/few-digits", "--json")
    assert code == 0, err
    revision = json.loads(out)["revision"]
    code, out, err = shell(tmp_path, hub, "find", "sklearn:digits", "--json")
    assert code == 0, err
    (found,) = json.loads(out)
    assert (found["repo_id"], found["outcome"]) == ("ada/few-digits", evidence["outcome"])
    code, out, err = shell(tmp_path, hub, "pull", f"ada/few-digits@{revision}", "--out", "pulled")
    assert code == 0, err
    assert (tmp_path / "pulled" / "commentary.safetensors").read_bytes() == (
        tmp_path / "made" / "commentary.safetensors"
    ).read_bytes()
    code, out, err = shell(tmp_path, hub, "show", "ada/few-digits", "--json")
    assert code == 0, err
    assert json.loads(out)["manifest"]["kind"] == "example_weights"
    code, out, err = shell(tmp_path, hub, "verify", "pulled", "--account", "grace", "--json")
    assert code == 0, err + out
    assert json.loads(out)["verification"] | {"detail": ""} == json.loads(out)["verification"] | {
        "account": "grace", "agrees": True, "detail": "",
    }  # fmt: skip


def test_a_wrong_token_and_a_taken_name_are_one_line_each(tmp_path, hub):
    golden = ROOT / "tests" / "golden" / "format-1"
    code, out, err = shell(tmp_path, hub, "push", golden, "ada/wrong", token="hf_of_nobody")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "HF_TOKEN" in err
    code, out, err = shell(tmp_path, hub, "push", golden, "ada/wrong", "--json", token="hf_of_nobody")
    assert json.loads(out)["error"] == "HubAccessDenied"
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url, token=hub.token("ada"))
    api.create_repo("ada/pictures", repo_type="dataset")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id="ada/pictures", repo_type="dataset")
    code, out, err = shell(tmp_path, hub, "push", golden, "ada/pictures")
    assert (code, err.count("\n")) == (1, 1)
    assert "not a commentary" in err
    assert api.list_repo_files("ada/pictures", repo_type="dataset") == ["a.txt"]
