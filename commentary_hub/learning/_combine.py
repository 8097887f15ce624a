"""Several learning runs as one result: what they agree on, and how far they differ."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from commentary_hub.commentaries import ExampleWeights
from commentary_hub.errors import InputError
from commentary_hub.learning._result import Learned, statistics_prefix


def combine(runs: Sequence[Learned]) -> Learned:
    """One result of runs on the same examples that differ in seed or student architecture.

    Difficulty is noisy from run to run and differs between architectures (Kwok et al. 2024): a table becomes the mean
    of the runs' weights, and ``statistics`` hold their ``mean`` and (unbiased) ``variance`` over runs. Networks cannot
    be averaged: where any commentary is no table, the run with the least outer loss (mean of its last quarter) is kept,
    and the statistics of its tables are still over all runs. Seeds, students and costs are those of all runs; each line
    of ``history`` says its ``run``. Raises `InputError` where runs do not fit together.
    """
    if not runs:
        raise InputError("there is no learning run to combine: give at least one")
    if len(runs) == 1:
        return runs[0]
    first = runs[0]
    kinds = [one.kind for one in first.commentaries]
    for other in runs[1:]:
        if [one.kind for one in other.commentaries] != kinds or other.train.fingerprint() != first.train.fingerprint():
            raise InputError("the runs learned other kinds or on other examples: combine runs of one recipe and split")
    best = min(runs, key=_last_loss)
    commentaries = copy.deepcopy(best.commentaries)
    if all(isinstance(one, ExampleWeights) for one in commentaries):
        for at, one in enumerate(commentaries):
            assert isinstance(one, ExampleWeights)
            with torch.no_grad():
                one.logits.copy_(torch.logit(_weights(runs, at).mean(0).clamp(1e-6, 1 - 1e-6)))
    students = dict.fromkeys(name for run in runs for name in run.recipe.students)
    return replace(
        best,
        commentaries=commentaries,
        statistics=_statistics(runs),
        history=tuple({"run": float(at), **line} for at, run in enumerate(runs) for line in run.history),
        recipe=best.recipe.model_copy(
            update={"students": tuple(students), "seeds": tuple(seed for run in runs for seed in run.recipe.seeds)}
        ),
        cost=best.cost.model_copy(
            update={
                "seconds": round(sum(run.cost.seconds for run in runs), 3),
                "inner_steps": sum(run.cost.inner_steps for run in runs),
            }
        ),
    )


def _last_loss(run: Learned) -> float:
    losses = [line["outer_loss"] for line in run.history]
    last = losses[-max(1, len(losses) // 4) :]
    return sum(last) / len(last)


def _weights(runs: Sequence[Learned], at: int) -> Tensor:
    """[runs, rows, stages] of the table that is commentary ``at``."""
    tables = [run.commentaries[at] for run in runs]
    return torch.stack([one.values().double() for one in tables if isinstance(one, ExampleWeights)])


def _statistics(runs: Sequence[Learned]) -> dict[str, Tensor]:
    """Of every table, by the names that they have in a single run."""
    found: dict[str, Tensor] = {}
    for at, one in enumerate(runs[0].commentaries):
        if isinstance(one, ExampleWeights):
            weights, prefix = _weights(runs, at), statistics_prefix(runs[0].commentaries, at)
            found |= {f"{prefix}mean": weights.mean(0).float(), f"{prefix}variance": weights.var(0).float()}
    return found
