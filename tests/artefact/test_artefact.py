import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from commentary_hub.artefact import Rows, attach, load, save
from commentary_hub.commentaries import ExampleWeights
from commentary_hub.errors import ArtefactError, InputError, ShapeError, TensorFileInvalid
from commentary_hub.manifest import (
    DatasetBinding,
    DatasetIdentity,
    Evidence,
    Iterations,
    KeyScheme,
    Manifest,
    split_card,
    tensor_digest,
    verify_folder,
)

DATASET = DatasetBinding(identity=DatasetIdentity(id="ada/toy"), rows=4, key=KeyScheme(form="numeric"))
KEYS = np.arange(64, dtype=np.uint8).reshape(4, 16)[[2, 0, 3, 1]]
TARGETS = np.arange(32, dtype=np.uint8).reshape(4, 8)


def table(*logits):
    commentary = ExampleWeights(rows=len(logits))
    with torch.no_grad():
        commentary.logits.copy_(torch.tensor(logits)[:, None])
    return commentary


def write(folder, commentary=None, **settings):
    settings = {"name": "toy", "dataset": DATASET, "loss_reduction": "mean", "rows": Rows(KEYS, TARGETS)} | settings
    return save(folder, commentary or table(0.0, 1.0, 2.0, 3.0), **settings)


def evidence_for(digest):
    return Evidence.model_validate(
        {
            "tensor_digest": digest,
            "dataset": "ada/toy",
            "protocol": {
                "students": ["mlp"], "controls": ["none"], "seeds": 2, "steps": 10, "batch_size": 2,
                "learning_rates": [0.1], "selection": "Apart.", "rule": "Interval above zero.",
            },
            "measurements": [
                {"student": "mlp", "control": "none", "runs": 2, "accuracy_mean": 0.5, "accuracy_ci95": [0.4, 0.6],
                 "difference_mean": 0.1, "difference_ci95": [0.05, 0.15]}
            ],
            "verdicts": [{"student": "mlp", "control": "none", "outcome": "helps", "sentence": "Better."}],
            "outcome": "helps",
            "summary": "It helps the MLP.",
            "hardware": "2 cores",
            "versions": {},
            "cost_seconds": 1.0,
        }
    )  # fmt: skip


def test_what_was_saved_is_loaded_sorted_by_key(tmp_path):
    statistics = {"variance": torch.tensor([0.0, 0.1, 0.2, 0.3])}
    manifest = write(tmp_path, statistics=statistics, validation_keys=KEYS[:2], licence="mit")
    stored = load(tmp_path)
    assert stored.manifest == manifest
    assert np.array_equal(stored.rows.keys, KEYS[[1, 3, 0, 2]])
    assert stored.commentary.logits[:, 0].tolist() == [1.0, 3.0, 0.0, 2.0]
    assert stored.statistics["variance"].tolist() == pytest.approx([0.1, 0.3, 0.0, 0.2])
    assert len(stored.validation_keys) == 2
    assert not stored.commentary.logits.requires_grad


def test_equal_examples_become_one_row_their_mean(tmp_path):
    keys, targets = KEYS[[0, 1, 0, 0]], TARGETS[[0, 1, 0, 2]]
    write(tmp_path, table(1.0, 5.0, 3.0, 7.0), rows=Rows(keys, targets))
    stored = load(tmp_path)
    assert sorted(stored.commentary.logits[:, 0].tolist()) == [2.0, 5.0, 7.0]


def test_equal_artefacts_have_equal_bytes(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    for path in (tmp_path / "a").rglob("*"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_tensors_shard_past_the_limit_and_load_whole(tmp_path):
    rng = np.random.default_rng(0)
    rows = Rows(rng.integers(0, 256, (2000, 16), dtype=np.uint8), rng.integers(0, 256, (2000, 8), dtype=np.uint8))
    logits = torch.randn(2000, 3)
    commentary = ExampleWeights(rows=2000, stages=3)
    with torch.no_grad():
        commentary.logits.copy_(logits)
    manifest = write(tmp_path, commentary, rows=rows, max_shard_size="30KB")
    assert len(manifest.tensor_files) > 1
    assert "commentary.safetensors.index.json" in manifest.files
    assert torch.equal(load(tmp_path).commentary.logits, logits[torch.from_numpy(order(rows.keys))])
    write(tmp_path)
    assert not list(tmp_path.glob("*-of-*.safetensors"))
    assert len(load(tmp_path).rows.keys) == 4


def order(keys):
    return np.lexsort(keys.T[::-1])


def test_the_card_is_valid_for_a_hub_and_says_that_nobody_measured(tmp_path):
    write(tmp_path, licence="apache-2.0")
    metadata, body = split_card((tmp_path / "README.md").read_text())
    assert metadata["tags"] == ["commentary", "commentary:example_weights", "dataset:ada/toy"]
    assert metadata["license"] == "apache-2.0"
    assert metadata["library_name"] == "commentary-hub"
    assert "**No evidence:**" in body


@pytest.mark.parametrize(
    ("outcome", "first"), [("helps", ""), ("no_difference", ": makes no difference"), ("hurts", ": hurts")]
)
def test_the_first_line_of_a_card_says_so_where_it_does_not_help(tmp_path, outcome, first):
    write(tmp_path)
    evidence = evidence_for(load(tmp_path).tensor_digest)
    attach(tmp_path, evidence=evidence.model_copy(update={"outcome": outcome}))
    _, body = split_card((tmp_path / "README.md").read_text())
    assert body.strip().splitlines()[0] == f"# {load(tmp_path).manifest.name}{first}"


def test_evidence_and_pictures_are_attached_to_the_very_tensors(tmp_path):
    write(tmp_path)
    attach(tmp_path, evidence=evidence_for(load(tmp_path).tensor_digest))
    attach(tmp_path, plots={"weights.png": (b"\x89PNG", "Most weights are high.")})
    stored = load(tmp_path)
    assert stored.evidence.outcome == "helps"
    card = (tmp_path / "README.md").read_text()
    assert "**Helps:** It helps the MLP." in card
    assert "![Most weights are high.](plots/weights.png)" in card
    with pytest.raises(ArtefactError, match="other tensors"):
        attach(tmp_path, evidence=evidence_for("0" * 64))
    write(tmp_path, table(9.0, 1.0, 2.0, 3.0))
    assert load(tmp_path).evidence is None


def test_evidence_belongs_to_the_settings_too(tmp_path):
    """No tensor file tells what an example without a row is worth, or how a loss is reduced."""
    write(tmp_path)
    stored = load(tmp_path)
    measured = evidence_for(stored.tensor_digest).model_copy(
        update={"settings_digest": stored.manifest.settings_digest}
    )
    attach(tmp_path, evidence=measured)
    assert load(tmp_path).evidence == measured
    path = tmp_path / "commentary.json"
    manifest = json.loads(path.read_text())
    for change in ({"parameters": manifest["parameters"] | {"neutral": 0.9}}, {"loss_reduction": "sum"}):
        path.write_text(json.dumps(manifest | change))
        assert load(tmp_path).evidence is None
        with pytest.raises(ArtefactError, match="other tensors or settings"):
            attach(tmp_path, evidence=measured)


def test_an_edited_card_is_no_damage(tmp_path):
    write(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    assert load(tmp_path).manifest.name == "toy"


def test_nan_weights_are_refused_and_the_old_artefact_stays(tmp_path):
    write(tmp_path)
    before = load(tmp_path).tensor_digest
    with pytest.raises(TensorFileInvalid, match="NaN"):
        write(tmp_path, table(float("nan"), 0.0, 0.0, 0.0))
    assert load(tmp_path).tensor_digest == before


def test_rows_must_be_said_and_fit(tmp_path):
    with pytest.raises(InputError, match="rows="):
        write(tmp_path, rows=None)
    with pytest.raises(ShapeError, match="3 keys"):
        write(tmp_path, rows=Rows(KEYS[:3], TARGETS[:3]))
    with pytest.raises(ShapeError, match="16"):
        Rows(KEYS[:, :8], TARGETS)


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_args, **_settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("commentary_hub.artefact._save.write_tensors", full)
    with pytest.raises(ArtefactError, match="free some space"):
        write(tmp_path, table(4.0, 4.0, 4.0, 4.0))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_files_in_the_folder_are_untouched(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_somebody_else_put_beside_it_is_no_part_of_it(tmp_path):
    digest = tensor_digest(write(tmp_path).files)
    before = (tmp_path / "commentary.safetensors").read_bytes()
    save_file({"weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    (tmp_path / "patients.csv").write_text("name\n")
    (tmp_path / "recipe.toml").write_text("a = 1\n")
    attach(tmp_path, evidence=evidence_for(digest))
    manifest = load(tmp_path).manifest
    assert set(manifest.files) == {"README.md", "commentary.safetensors", "evidence.json", "recipe.toml"}
    assert (tmp_path / "commentary.safetensors").read_bytes() == before
    assert (tmp_path / "model.safetensors").is_file()
    assert (tmp_path / "patients.csv").is_file()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "my weights"}, "name is 'my weights': begin with a letter or digit"),
        ({"name": "Gewichte-für-Ziffern"}, "name is 'Gewichte-für-Ziffern'"),
        ({"description": "x" * 5000}, "description is 'xxx.*at most 4096 characters"),
    ],
)
def test_what_fits_into_no_manifest_is_named(tmp_path, settings, words):
    with pytest.raises(InputError, match=words):
        write(tmp_path, **settings)
    assert not list(tmp_path.iterdir())


def test_an_artefact_has_the_same_bytes_whatever_the_locale(tmp_path):
    script = (
        "from tests.artefact.test_artefact import DATASET, write\n"
        "import sys\n"
        "named = DATASET.model_copy(update={'classes': ('猫', 'Vögel')})\n"
        "write(sys.argv[1], dataset=named, description='für alle', recipe_toml='# ä\\n')\n"
    )
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    for name, ascii_only in (("one", "0"), ("other", "1")):
        plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C" if ascii_only == "1" else "C.UTF-8"}
        subprocess.run(
            [sys.executable, tmp_path / "script.py", tmp_path / name], env=os.environ | plain | {"PYTHONPATH": "."},
            check=True,
        )  # fmt: skip
    assert load(tmp_path / "other").manifest.dataset.classes == ("猫", "Vögel")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_iterations_survive(tmp_path):
    write(tmp_path, iterations=Iterations(steps=60, batch_size=64))
    assert load(tmp_path).manifest.iterations.steps == 60


def test_the_manifest_lists_every_file_with_its_digest(tmp_path):
    manifest = write(tmp_path, recipe_toml="a = 1\n")
    assert set(manifest.files) == {"README.md", "commentary.safetensors", "recipe.toml"}
    assert Manifest.from_json((tmp_path / "commentary.json").read_text()) == verify_folder(tmp_path)


def test_the_committed_sample_of_format_1_still_reads():
    folder = Path(__file__).parents[1] / "golden" / "format-1"
    stored = load(folder)
    expected = json.loads((folder.parent / "format-1.json").read_text())
    assert stored.manifest.format_version == 1
    assert stored.tensor_digest == expected["tensor_digest"]
    assert [key.tobytes().hex() for key in stored.rows.keys] == expected["keys"]
    assert stored.commentary.values()[:, 0].tolist() == pytest.approx(expected["weights"])
    assert stored.evidence.outcome == expected["outcome"]
