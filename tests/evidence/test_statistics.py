"""Intervals against what is known: coverage on simulated data, Student's interval, degenerate tables."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from commentary_hub.errors import EvidenceError
from commentary_hub.evidence import interval
from commentary_hub.evidence._statistics import differences, independent_units, mean_of

values = st.floats(-1, 1, allow_nan=False)


@pytest.mark.parametrize(
    ("trials", "seeds", "between", "tolerance"),
    [(1, 10, 0.0, 0.02), (1, 20, 0.0, 0.02), (3, 10, 0.05, 0.03), (5, 6, 0.1, 0.025), (8, 4, 0.0, 0.025)],
)
def test_intervals_cover_the_truth_as_often_as_they_say(trials, seeds, between, tolerance):
    rng = np.random.default_rng(0)
    repetitions, truth, hits = 1200, 0.1, 0
    for number in range(repetitions):
        table = truth + between * rng.normal(size=(trials, 1)) + 0.04 * rng.normal(size=(trials, seeds))
        low, high = interval(table.tolist(), seed=number, resamples=1500)
        hits += low <= truth <= high
    assert abs(hits / repetitions - 0.95) < tolerance


def test_ignoring_trials_would_claim_too_much():
    """The oracle's oracle: drawn over seeds alone, nested runs are covered far less often than 95 %."""
    rng = np.random.default_rng(1)
    hits = 0
    for number in range(300):
        table = 0.05 * rng.normal(size=(3, 1)) + 0.02 * rng.normal(size=(3, 10))
        low, high = interval([table.ravel().tolist()], seed=number, resamples=1500)
        hits += low <= 0 <= high
    assert hits / 300 < 0.75


def test_the_interval_of_normal_values_is_students():
    sample = np.random.default_rng(2).normal(size=40)
    low, high = interval([sample.tolist()])
    half = t.ppf(0.975, 39) * sample.std(ddof=1) / np.sqrt(40)
    assert [low, high] == pytest.approx([sample.mean() - half, sample.mean() + half], abs=0.03)


@settings(max_examples=40, deadline=None)
@given(st.lists(values, min_size=2, max_size=8), st.floats(-0.5, 0.5))
def test_intervals_hold_their_mean_and_move_with_it(sample, shift):
    low, high = interval([sample], resamples=400)
    assert low <= np.mean(sample) <= high
    moved = interval([[value + shift for value in sample]], resamples=400)
    assert list(moved) == pytest.approx([low + shift, high + shift], abs=1e-9)
    clipped = interval([sample], bounds=(-1, 1), resamples=400)
    assert -1 - 1e-12 <= clipped[0] <= clipped[1] <= 1 + 1e-12
    assert interval([sample], resamples=400) == (low, high)  # the same numbers, the same interval


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(values, min_size=3, max_size=3), min_size=2, max_size=5))
def test_trials_are_units_of_equal_weight(table):
    assert independent_units(table).tolist() == pytest.approx([np.mean(row) for row in table])
    assert mean_of(table) == pytest.approx(np.mean(table))
    zero = differences(table, table)
    assert interval(zero, resamples=100) == (0, 0)


def test_constant_differences_have_an_interval_of_no_width():
    assert interval([[0.25] * 5]) == (0.25, 0.25)


@pytest.mark.parametrize("table", [[[0.5]], [[0.1, float("nan")]], [[]]])
def test_what_has_no_interval_is_refused(table):
    with pytest.raises(EvidenceError, match=r"at least 2 paired runs|not finite"):
        interval(table)


def test_unpaired_tables_are_refused():
    with pytest.raises(ValueError, match="zip"):
        differences([[1.0, 2.0]], [[1.0]])
