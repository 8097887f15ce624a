"""Experiment 5: how the learned weight of a turned digit follows its angle while the student trains."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.paper.figures import CYCLE, panels
from benchmarks.paper.rotated.data import NAME, angles_by_key, build
from benchmarks.paper.section import Section, Table, comparison, decided
from benchmarks.paper.work import Work
from commentary_hub.evidence import example_weights, interval
from commentary_hub.manifest import Evidence

TIMES = {"beginning": 0, "middle": 8, "end": 15}  # of the 16 stages in which weights over training are read
BINS = 12
Numbers = NDArray[np.float64]


def run(work: Work) -> Section:
    """Evaluate both settings, then read every learning run's weights against the angle."""
    work.dataset(NAME, build)
    settings = work.plan.settings
    found: dict[str, Evidence] = {}
    read: dict[str, list[dict[str, Any]]] = {}
    for case in work.plan.cases:
        evidence = work.evaluated(case).evidence
        assert evidence is not None
        assert case.recipe.data.config is not None
        found[case.name] = evidence
        angles = angles_by_key(work.datasets / NAME, case.recipe.data.config)
        read[case.name] = []
        for stored, parts in work.learning_runs(case):
            weights = example_weights(stored, parts.train).double().numpy()
            side = np.where(parts.train.targets.numpy() == 1, 1, -1)
            distance = np.array([angles[bytes(key)] for key in parts.train.keys]) * side
            read[case.name].append(_against_angle(weights, distance))
    _draw(work, read)
    chosen = settings["decides"]
    work.card(next(case for case in work.plan.cases if case.name == chosen))
    outcome, verdict = decided(found[chosen], settings["student"], settings["against"])
    tables = [_correlations(read), *(comparison(name, one) for name, one in found.items())]
    return work.section(
        outcome=outcome,
        verdict=f"{chosen}. {verdict}",
        tables=tables,
        notes=[_insight(read)],
        remedies=settings.get("remedies", []) if outcome != "helps" else [],
    )


def _against_angle(weights: Numbers, distance: Numbers) -> dict[str, Any]:
    """Weights [16, N] against the degrees to the own side: rank correlations, and means over bins of equal count."""
    relative = weights / weights.mean(axis=1, keepdims=True)
    bins = np.array_split(np.argsort(distance), BINS)
    return {
        "spread": float(relative.std(axis=1).mean()),
        "correlation": {name: float(spearmanr(relative[at], distance).statistic) for name, at in TIMES.items()},
        "angle": [float(distance[part].mean()) for part in bins],
        "weight": {name: [float(relative[at, part].mean()) for part in bins] for name, at in TIMES.items()},
    }


def _interval_of(values: list[float]) -> tuple[float, tuple[float, float]]:
    return float(np.mean(values)), interval([values], bounds=(-2, 2))


def _correlations(read: dict[str, list[dict[str, Any]]]) -> Table:
    rows = []
    for name, runs in read.items():
        cells = []
        for time in TIMES:
            mean, (low, high) = _interval_of([one["correlation"][time] for one in runs])
            cells.append(f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]")
        mean, (low, high) = _interval_of([_change(one) for one in runs])
        spread = float(np.mean([one["spread"] for one in runs]))
        rows.append([name, str(len(runs)), *cells, f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]", f"{spread:.2f}"])
    columns = ["classes", "learning runs", *(f"at the {time}" for time in TIMES), "end minus beginning",
               "standard deviation of w / mean w"]  # fmt: skip
    return Table("Rank correlation of the weight with the degrees to the own side (+: the far weigh more)",
                 columns, rows)  # fmt: skip


def _change(one: dict[str, Any]) -> float:
    return float(one["correlation"]["end"] - one["correlation"]["beginning"])


def _insight(read: dict[str, list[dict[str, Any]]]) -> str:
    said = []
    for name, runs in read.items():
        mean, (low, high) = _interval_of([one["correlation"]["end"] for one in runs])
        where = "far from the boundary" if low > 0 else "near the boundary" if high < 0 else "neither side for certain"
        _, (below, above) = _interval_of([_change(one) for one in runs])
        change = "changes" if below > 0 or above < 0 else "does not change for certain"
        said.append(
            f"with classes {name} weights at the end prefer {where} ({mean:+.2f}), and this {change} over training"
        )
    return f"Insight: {'; '.join(said)}. Intervals are over learning runs, each with its own split."


def _draw(work: Work, read: dict[str, list[dict[str, Any]]]) -> None:
    figure, axes = panels(len(read))
    for one, (name, runs) in zip(axes, read.items(), strict=True):
        for time, colour in zip(TIMES, CYCLE, strict=False):
            angle = np.mean([found["angle"] for found in runs], axis=0)
            curves = np.array([found["weight"][time] for found in runs])
            one.plot(angle, curves.T, color=colour, linewidth=0.6, alpha=0.35)
            one.plot(angle, curves.mean(axis=0), color=colour, linewidth=2, label=f"{time} of training")
        one.set_title(f"classes {name}", fontsize=9, loc="left")
        one.set_xlabel("degrees to the own side", fontsize=8)
    axes[0].set_ylabel("weight / mean weight", fontsize=8)
    axes[-1].legend(frameon=False, fontsize=8)
    work.figure("angle", figure, "Learned weight against the angle at three times of training: thin lines are learning "
                "runs, thick ones their mean.")  # fmt: skip
