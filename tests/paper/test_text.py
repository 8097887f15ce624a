"""Experiment 7's own parts: splits that share nothing, arms that add up, sampling that follows the shares."""

import numpy as np
import pytest
import torch

from benchmarks.paper.text import mixture

SETTINGS = {
    "target": "plays", "news": "owner/news",
    "length": 16, "rows": 30, "target_rows": 5, "validation": 6, "selection": 7, "test": 8,
    "student": {"width": 8, "layers": 1, "kernel": 3}, "steps": 3, "batch_size": 4, "rates": [0.01], "seeds": 2,
}  # fmt: skip


@pytest.fixture
def trial():
    rng = np.random.default_rng(0)
    words = lambda letters: ["".join(rng.choice(list(letters), 200)) for _ in range(12)]
    texts = {"news": words("abcdef "), "plays": words("mnopqr "), "code": words("uvwxyz ")}
    return mixture._split(texts, SETTINGS, 0)


def test_a_split_has_the_sizes_asked_for_and_shares_no_text(trial):
    assert trial.names == ["news", "plays", "code"]
    assert torch.bincount(trial.of).tolist() == [30, 5, 30]
    assert (len(trial.validation), len(trial.selection), len(trial.test)) == (6, 7, 8)
    target = trial.train.inputs[trial.of == 1]
    parts = torch.cat([target, trial.validation.inputs, trial.selection, trial.test])
    assert len(torch.unique(parts, dim=0)) == len(parts)


def test_balanced_rows_repeat_the_small_sources(trial):
    rows = mixture._balanced(trial.of)
    assert torch.bincount(trial.of[rows]).tolist() == [30, 30, 30]


def test_the_arms_are_shares_and_shuffling_moves_the_target(trial):
    learned = {"news": 0.3, "plays": 0.6, "code": 0.1}
    arms = mixture._arms(trial, learned, "plays", 0)
    assert all(sum(shares.values()) == pytest.approx(1) for shares in arms.values())
    assert arms["target only"] == {"news": 0.0, "plays": 1.0, "code": 0.0}
    assert arms["proportional"] == pytest.approx({"news": 30 / 65, "plays": 5 / 65, "code": 30 / 65})
    assert sorted(arms["shuffled"].values()) == sorted(learned.values())
    assert arms["shuffled"]["plays"] != 0.6


def test_models_are_measured_in_bits_and_paired_by_seed(trial):
    arms = mixture._arms(trial, {"news": 0.2, "plays": 0.7, "code": 0.1}, "plays", 0)
    found = mixture._measured(SETTINGS, trial, {name: arms[name] for name in ("commentary", "target only")}, "cpu")
    again = mixture._measured(SETTINGS, trial, {name: arms[name] for name in ("commentary", "target only")}, "cpu")
    assert found == again
    assert all(4 < bits < 8 for runs in found["bits"].values() for bits in runs)  # log2(97) = 6.6 before learning
    outcome, verdict, tables, _ = mixture._told(SETTINGS, [{"arms": arms, **found}, {"arms": arms, **found}])
    assert outcome in {"helps", "no_difference", "hurts"}
    assert "target only" in verdict
    assert len(tables[0].rows) == 2
