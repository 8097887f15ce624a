"""``datasets`` and the ``hf`` command, unmodified, against a running hub."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi

PUSH_AND_LOAD = """
import sys
from datasets import Dataset, load_dataset
rows = {"x": list(range(2000)), "y": [f"text {n}" for n in range(2000)]}
Dataset.from_dict(rows).push_to_hub("ada/rows")
Dataset.from_dict({"x": [1], "y": ["only"]}).push_to_hub("ada/rows", split="test")
loaded = load_dataset("ada/rows")
assert loaded["train"]["x"][:] == rows["x"] and loaded["test"]["y"][:] == ["only"], loaded
streamed = load_dataset("ada/rows", split="train", streaming=True)
assert [row["y"] for row in streamed.take(3)] == rows["y"][:3]
assert sum(row["x"] for row in streamed) == sum(rows["x"])
print(load_dataset("ada/rows", split="train[:10]").num_rows)
"""


def run(command, hub, folder, **more):
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "HF_HOME": str(folder / "hf"), "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token("ada"), "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    } | more  # fmt: skip
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=200, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout
    return done.stdout


@pytest.mark.parametrize("more", [{}, {"HF_HUB_DISABLE_XET": "1"}], ids=["xet", "lfs"])
def test_push_to_hub_and_load_dataset(hub, tmp_path, more):
    assert run([sys.executable, "-c", PUSH_AND_LOAD], hub, tmp_path, **more).split()[-1] == "10"
    card = HfApi(endpoint=hub.url, token=False).dataset_info("ada/rows").card_data
    assert card["dataset_info"]["splits"][0]["num_examples"] == 2000


def test_the_hf_command(hub, tmp_path):
    hf = str(Path(sys.executable).with_name("hf"))
    big = os.urandom(2_000_000)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "big.bin").write_bytes(big)
    (tmp_path / "folder" / "note.txt").write_text("note")
    assert "ada" in run([hf, "auth", "whoami"], hub, tmp_path)
    run([hf, "repos", "create", "ada/by-hf", "--type", "dataset"], hub, tmp_path)
    run([hf, "upload", "ada/by-hf", "folder", ".", "--type", "dataset"], hub, tmp_path)
    run([hf, "download", "ada/by-hf", "--type", "dataset", "--local-dir", "down"], hub, tmp_path)
    assert (tmp_path / "down" / "big.bin").read_bytes() == big
    assert (tmp_path / "down" / "note.txt").read_text() == "note"
    assert "ada/by-hf" in run([hf, "datasets", "info", "ada/by-hf"], hub, tmp_path)
