"""A comparison measures what it says: budgets, pairing, tuning, leakage, resuming."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from commentary_hub.data import Examples, content_keys, corrupt_labels
from commentary_hub.errors import EvidenceError, SplitError
from commentary_hub.evidence import Arm, Comparison, PieceFolder, Runs, TunedSGD, _compare, compare, standard_arms
from commentary_hub.evidence._compare import TUNING_SEED
from commentary_hub.manifest import judge

CLASSES = 4


@dataclass(frozen=True)
class Student:
    name: str
    build: Any


MLP = Student("mlp", lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, CLASSES)))
WIDE = Student("wide", lambda: nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, CLASSES)))


def examples(count, seed):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % CLASSES
    centres = torch.randn(CLASSES, 8, generator=torch.Generator().manual_seed(99))
    inputs = centres[targets] + 0.8 * torch.randn(count, 8, generator=generator)
    return Examples.of(inputs, targets, keys=content_keys(inputs.numpy()), classes=tuple("abcd"))


TRAIN, TRUSTED, SELECTION, TEST = examples(240, 0), examples(12, 1), examples(60, 2), examples(200, 3)
NOISY, MISTAKEN = corrupt_labels(TRAIN, 0.5, noise="pairwise", seed=0)
SALTED = replace(SELECTION, salt_check="0" * 16)
RIGHT = (~MISTAKEN).float() * 0.9 + 0.05
SETTINGS = {"selection": SELECTION, "test": TEST, "steps": 40, "batch_size": 32, "learning_rates": [0.02, 0.1]}


def test_weights_that_know_the_mistakes_help_and_the_controls_do_not():
    arms = standard_arms(NOISY, TRUSTED, RIGHT, keep={"oracle": ~MISTAKEN})
    seen = []
    found = compare(
        arms,
        [MLP, WIDE],
        seeds=6,
        tuning_seeds=2,
        progress=lambda *args: seen.append(args),
        target_accuracy=0.7,
        **SETTINGS,
    )
    assert [arm.name for arm in arms] == list(found.arms)
    assert len(seen) == 14
    assert seen[-1] == (14, 14, "wide · oracle")
    for student in found.students:
        for arm in ("none", "equal_data", "shuffled", "random"):
            assert judge(found.difference(student, arm)[1]) == "helps"
        assert abs(found.difference(student, "oracle")[0]) < 0.05
    rows = found.rows()
    assert {"student", "control", "accuracy_mean", "accuracy_ci95", "seeds", "commentary_minus_this_ci95"} <= set(
        rows[0]
    )
    assert rows[0]["commentary_minus_this_ci95"] is None
    assert all(row["seeds"] == 6 for row in rows)
    assert rows[0]["steps_to_target"] < 40


def test_reported_numbers_come_from_the_runs():
    runs = [_runs("commentary", [[0.2, 0.5, 0.9], [0.1, 0.8, 0.7]]), _runs("none", [[0.2, 0.4, 0.5], [0.1, 0.2, 0.5]])]
    found = Comparison(("s",), ("commentary", "none"), {("s", run.arm): (run,) for run in runs}, 0.8, 1.0)
    assert found.difference("s", "none")[0] == pytest.approx(0.3)
    ours, none = found.measurements()
    assert (ours.accuracy_mean, ours.steps_to_target, ours.reached_target) == (pytest.approx(0.8), 7.5, 1.0)
    assert (none.steps_to_target, none.reached_target) == (None, 0.0)
    assert ours.curve_area_mean == pytest.approx(np.mean([0.525, 0.6]))
    assert ours.difference_mean is None
    assert none.per_class_difference == pytest.approx([0.3, 0.3])
    joined = Comparison.joined([found, found])
    assert joined.accuracies("s", "none") == [[0.5, 0.5]] * 2
    assert joined.measurement("s", "none").runs == 4


def _runs(arm, curves):
    final = tuple(curve[-1] for curve in curves)
    per_class = tuple((value, value) for value in final)
    curves = tuple(tuple(curve) for curve in curves)
    return Runs(arm, "s", "", 0.1, False, ((0.1, 0.5),), (0, 1), (0, 5, 10), curves, final, per_class, 0, 0.1)


def test_the_rate_is_chosen_on_the_selection_split_alone():
    """With labels of the selection split permuted, the choice may change; with those of the test split it may not."""
    arms = [Arm("none", TRAIN)]
    settings = SETTINGS | {"learning_rates": [1e-4, 0.05, 0.5], "seeds": 2}
    plain = compare(arms, [MLP], **settings).runs["mlp", "none"][0]
    assert plain.learning_rate == max(plain.tuning, key=lambda pair: pair[1])[0] == 0.05
    assert not plain.at_edge
    shifted = TEST.with_targets((TEST.targets + 1) % CLASSES)
    other = compare(arms, [MLP], **(settings | {"test": shifted})).runs["mlp", "none"][0]
    assert other.tuning == plain.tuning
    assert other.accuracy != plain.accuracy
    shifted = SELECTION.with_targets((SELECTION.targets + 1) % CLASSES)
    misled = compare(arms, [MLP], **(settings | {"selection": shifted})).runs["mlp", "none"][0]
    assert misled.learning_rate == 1e-4
    assert misled.at_edge


def test_runs_are_reproduced_by_their_seed_alone():
    settings = SETTINGS | {"learning_rates": [0.05]}
    both = compare([Arm("none", TRAIN)], [WIDE], seeds=[4, 9], **settings).runs["wide", "none"][0]
    pair = compare([Arm("none", TRAIN)], [WIDE], seeds=[9, 2], **settings).runs["wide", "none"][0]
    assert both.accuracy[1] == pytest.approx(pair.accuracy[0], abs=0.011)
    assert both.curves != pair.curves


def test_variants_are_chosen_on_the_selection_split():
    bad = Arm("filter", NOISY.subset(MISTAKEN), note="bad")
    good = replace(bad, examples=NOISY.subset(~MISTAKEN), note="good")
    found = compare([replace(bad, variants=(good,))], [MLP], seeds=2, **SETTINGS).runs["mlp", "filter"][0]
    assert found.variant == "good"
    assert min(found.accuracy) > 0.8


def test_finished_pieces_are_not_run_again(tmp_path, monkeypatch):
    arms = [Arm("none", NOISY), Arm("clean_only", TRUSTED)]
    pieces = PieceFolder(tmp_path / "pieces")
    settings = SETTINGS | {"seeds": 2, "pieces": pieces}
    with pytest.raises(KeyboardInterrupt):
        compare(arms, [MLP], progress=_interrupt, **settings)
    assert len(list((tmp_path / "pieces").iterdir())) == 1
    first = compare(arms, [MLP], **settings)
    with monkeypatch.context() as patch:
        patch.setattr(_compare, "train", _never)
        assert compare(arms, [MLP], **settings).runs == first.runs
        with pytest.raises(AssertionError, match="trained again"):  # another budget is another piece
            compare(arms, [MLP], **(settings | {"steps": 41}))
        with pytest.raises(AssertionError, match="trained again"):  # and another student of the same name
            compare(arms, [Student("mlp", lambda: nn.Sequential(nn.Linear(8, 17), nn.Linear(17, 4)))], **settings)
        with pytest.raises(AssertionError, match="trained again"):  # and another function under the same note
            compare([replace(one, mark="other tensors") for one in arms], [MLP], **settings)
    assert compare(arms, [MLP], **(settings | {"pieces": None})).runs["mlp", "none"][0].accuracy == (
        first.runs["mlp", "none"][0].accuracy
    )
    for path in (tmp_path / "pieces").iterdir():
        path.write_text("{half")
    assert compare(arms, [MLP], **settings).runs["mlp", "none"][0].curves == first.runs["mlp", "none"][0].curves


def _interrupt(done, total, what):
    raise KeyboardInterrupt


def _never(*args, **options):
    raise AssertionError("trained again")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"test": SELECTION}, SplitError, "selection and test share 60"),
        ({"test": TRAIN}, EvidenceError, "trains on 240 of the test examples"),
        ({"selection": TRUSTED}, EvidenceError, "trains on 12 of the selection"),
        ({"selection": SALTED}, SplitError, "not salted alike"),
        (
            {"selection": SALTED, "test": replace(TEST, salt_check="0" * 16)},
            SplitError,
            "arm 'none' and selection cannot be compared",
        ),
        ({"seeds": 1}, EvidenceError, "at least 2 seeds"),
        ({"points": 0}, EvidenceError, "points is 0: each run is measured at least once"),
        ({"seeds": [3, 3]}, EvidenceError, "all different"),
        ({"seeds": [0, TUNING_SEED]}, EvidenceError, "the higher ones are for tuning"),
        ({"steps": 0}, EvidenceError, "steps and batch_size"),
        ({"learning_rates": []}, EvidenceError, "learning rates"),
        ({"learning_rates": [-0.1]}, EvidenceError, "learning rates"),
        ({"arms": []}, EvidenceError, "at least one arm"),
        ({"students": [MLP, MLP]}, EvidenceError, "a name of its own"),
    ],
)
def test_what_measures_nothing_is_refused_before_work_starts(change, error, message):
    settings = {"arms": [Arm("none", TRAIN), Arm("clean_only", TRUSTED)], "students": [Student("never", _never)]}
    with pytest.raises(error, match=message):
        compare(**(settings | SETTINGS | {"seeds": 2} | change))


def test_momentum_free_training_is_possible_too():
    found = compare([Arm("none", TRAIN)], [MLP], seeds=2, optimiser=TunedSGD(momentum=0), schedule="cosine", **SETTINGS)
    assert found.measurements()[0].accuracy_mean > 0.6
