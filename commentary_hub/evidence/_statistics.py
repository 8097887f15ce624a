"""Intervals: paired, bootstrapped over independent units, honest with few of them.

Runs form a table: trials (a data split with a commentary learned on it) × student seeds. Where there are several
trials, whole trials are drawn: their student seeds share a split and a learning run and are not independent, and the
spread between trials already holds that between seeds. With one trial the seeds are drawn, and the interval speaks of
that one commentary only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from commentary_hub.errors import EvidenceError

RESAMPLES = 10_000
Numbers = NDArray[np.float64]
Table = Sequence[Sequence[float]]

INTERVAL_RULE = (
    "95 % bootstrap intervals of the mean (10,000 resamples of trials, or of student seeds where there is one trial), "
    "percentiles of the deviations widened by (t / z) * sqrt(n / (n - 1)) for n resampled units"
)


def interval(
    values: Table,
    *,
    level: float = 0.95,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """The interval of the mean of ``values`` [trials][seeds], every trial weighing the same.

    Percentile bootstrap intervals of n values are too short for small n (10 values: 90 % instead of 95 %), by the
    factor √((n − 1)/n) of the plug-in variance and that of the normal against Student's quantile; both are undone
    (Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3, on the deviations instead of the
    levels, which also works for 3 units). ``bounds`` clip the result. Raises `EvidenceError` for fewer than 2 units or
    numbers that are not finite. Cost: resamples · n.

    >>> low, high = interval([[0.1, 0.2, 0.3, 0.4, 0.5]])
    >>> low < 0.3 < high, interval([[0.5, 0.5]])
    (True, (0.5, 0.5))
    """
    units = independent_units(values)
    count = len(units)
    if not np.isfinite(units).all():
        raise EvidenceError("an interval was asked of numbers that are not finite: some run gave no result")
    mean = float(units.mean())
    rng = np.random.default_rng(seed)
    resampled = units[rng.integers(count, size=(resamples, count))].mean(axis=1)
    tail = (1 - level) / 2
    factor = float(t.ppf(1 - tail, count - 1) / norm.ppf(1 - tail)) * float(np.sqrt(count / (count - 1)))
    low, high = (mean + factor * (np.quantile(resampled, [tail, 1 - tail]) - mean)).tolist()
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return min(low, mean), max(high, mean)


def independent_units(values: Table) -> Numbers:
    """The means of the trials, or, of a single trial, its values; at least two. Raises `EvidenceError`."""
    units = np.array([np.mean(trial) for trial in values]) if len(values) > 1 else np.array(values[0], dtype=np.float64)
    if len(units) < 2:
        raise EvidenceError("an interval needs at least 2 paired runs: evaluate with more seeds, or more trials")
    return units.astype(np.float64)


def differences(ours: Table, theirs: Table) -> list[list[float]]:
    """``ours`` minus ``theirs``, run by run; both [trials][seeds] with the same seeds."""
    return [[a - b for a, b in zip(one, other, strict=True)] for one, other in zip(ours, theirs, strict=True)]


def mean_of(values: Table) -> float:
    """The mean over trials of the means over seeds."""
    return float(np.mean([np.mean(trial) for trial in values]))
