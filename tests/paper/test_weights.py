"""Experiments 1, 4 and 5 run from their plans to sections and cards, on data and budgets small enough for a test."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Picture

from benchmarks.paper.curriculum import experiment as curriculum
from benchmarks.paper.noisy_labels import experiment as noisy_labels
from benchmarks.paper.rotated import data as turned
from benchmarks.paper.rotated import experiment as rotated
from commentary_hub import artefact
from commentary_hub.data import open_examples
from tests.paper.test_masks_and_blending import SMALL, small, work_of


def pictures(work, name, size, mode):
    """A tiny dataset under the name of a great one."""

    def build(folder):
        rng = np.random.default_rng(0)
        shape = (160, size, size) if mode == "L" else (160, size, size, 3)
        features = Features({"image": Image(), "label": ClassLabel(names=[str(n) for n in range(10)])})
        values = [Picture.fromarray(one) for one in rng.integers(0, 256, shape, dtype=np.uint8)]
        Dataset.from_dict({"image": values, "label": [n % 10 for n in range(160)]}, features=features).to_parquet(
            folder / "train-00000-of-00001.parquet"
        )

    work.dataset(name, build)


def card_of(work):
    (folder,) = work.cards.iterdir()
    assert list((folder / "plots").glob("*.png"))
    stored = artefact.load(folder)
    assert stored.evidence.tensor_digest == stored.tensor_digest
    return stored


@pytest.mark.filterwarnings("ignore")  # cleanlab and scikit-learn warn of so few examples
def test_noisy_labels_are_weighed_measured_and_reported(tmp_path, monkeypatch):

    def cases(plan):
        return [small(case) for case in plan.cases if case.name in plan.settings["cards"]]

    work = work_of("noisy_labels", tmp_path, cases, monkeypatch)
    section = noisy_labels.run(work)
    overview, compared = section.tables
    assert [row[0] for row in overview.rows] == [case.name for case in work.plan.cases]
    assert all("/" in row[2] and "–" not in row[3:9] for row in overview.rows)
    assert any("cleanlab" in row[1] for row in compared.rows)
    assert "student cnn" in section.verdict
    assert [name for name, _ in section.figures] == ["noisy_labels-weights.png", "noisy_labels-detection.png"]
    assert sorted(path.name for path in work.cards.iterdir()) == ["digits-noisy-weight-network", "digits-noisy-weights"]


def test_a_curriculum_is_learned_measured_and_reported_with_its_remedies(tmp_path, monkeypatch):
    work = work_of("curriculum", tmp_path, lambda plan: [small(case) for case in plan.cases], monkeypatch)
    pictures(work, "uoft-cs/cifar10", 32, "RGB")
    section = curriculum.run(work)
    assert len(section.remedies) == 2
    assert all("points" in one for one in section.remedies)
    assert section.notes[0].startswith("Effective sample size")
    assert card_of(work).manifest.kind == "weight_network"


def test_weights_follow_the_angle_of_every_learning_run(tmp_path, monkeypatch):
    def cases(plan):
        found = [small(case, limit=None) for case in plan.cases]
        evaluation = found[0].recipe.evaluation.model_copy(update={"learning_runs": 2})
        changed = [one.recipe.model_copy(update={"evaluation": evaluation}) for one in found]
        return [
            type(one)(one.name, recipe, recipe.model_dump_json()) for one, recipe in zip(found, changed, strict=True)
        ]

    work = work_of("rotated", tmp_path, cases, monkeypatch)
    monkeypatch.setattr(turned, "chosen", lambda digits: digits.inputs)
    pictures(work, "ylecun/mnist", 28, "L")
    section = rotated.run(work)
    correlations = section.tables[0]
    assert [row[:2] for row in correlations.rows] == [["apart", "2"], ["overlapping", "2"]]
    assert section.notes[0].startswith("Insight:")
    assert card_of(work).manifest.dataset.identity.id == turned.NAME
    angles = turned.angles_by_key(work.datasets / turned.NAME, "apart")
    examples = open_examples(turned.NAME, config="apart", inputs="image", targets="label")
    assert all(15 <= abs(angle) <= 45 for angle in angles.values())
    sides = [angles[bytes(key)] > 0 for key in examples.keys]
    assert sides == (examples.targets == 1).tolist()
    assert sum(SMALL.values()) <= len(examples)
