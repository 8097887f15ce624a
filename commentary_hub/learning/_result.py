"""What goes into a learning run and what comes out of it, besides numbers: students, and the record of the run."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from commentary_hub.commentaries import Commentary, Reduction
from commentary_hub.data import Examples, fingerprint
from commentary_hub.errors import InputError
from commentary_hub.learning._hypergradient import Method
from commentary_hub.learning._optimisers import InnerOptimiser
from commentary_hub.manifest import Cost, Iterations, RecipeSummary


@dataclass(frozen=True, slots=True)
class Student:
    """A named architecture; ``build`` makes a freshly initialised one from torch's global generator."""

    name: str
    build: Callable[[], nn.Module]


@dataclass(frozen=True, slots=True)
class Learned:
    """What `learn` returns: all that an artefact says about a commentary.

    ``statistics`` holds ``mean`` and ``variance`` [rows, stages] of the example weights over the averaged outer steps
    (students, initialisations, batches); ``history`` a line per outer step.
    """

    commentaries: tuple[Commentary, ...]
    reduction: Reduction
    train: Examples
    validation: Examples
    statistics: dict[str, Tensor]
    history: tuple[dict[str, float], ...]
    iterations: Iterations
    recipe: RecipeSummary
    cost: Cost

    @property
    def commentary(self) -> Commentary:
        """The commentary, where one was learned; raises `InputError` where there are several."""
        if len(self.commentaries) != 1:
            raise InputError(f"{len(self.commentaries)} commentaries were learned together: use .commentaries")
        return self.commentaries[0]


def describe_optimiser(optimiser: torch.optim.Optimizer) -> str:
    """Its name and the learning rate that it began with, whatever a schedule has made of it since."""
    lr = optimiser.param_groups[0].get("initial_lr", optimiser.defaults.get("lr"))
    return type(optimiser).__name__.lower() + ("" if lr is None else f"(lr={float(lr):g})")


def describe_examples(examples: Examples) -> str:
    """32 hex digits over keys and targets, in order: what a run that goes on must find again."""
    return fingerprint(np.concatenate([examples.keys, examples.target_digests], axis=1))


def describe_run(
    commentaries: tuple[Commentary, ...],
    students: tuple[Student, ...],
    train: Examples,
    validation: Examples,
    statistics: dict[str, Tensor],
    history: list[dict[str, float]],
    *,
    method: Method,
    inner: InnerOptimiser,
    optimiser: torch.optim.Optimizer,
    reduction: Reduction,
    domain: int,
    inner_steps: int,
    batch_size: int,
    population: int,
    warm_up: int,
    fresh_every: int,
    seed: int,
    seconds: float,
    device: torch.device,
) -> Learned:
    """The record of a run that has ended."""
    generations = -(-len(history) // fresh_every)
    return Learned(
        commentaries=tuple(one.cpu().eval() for one in commentaries),
        reduction=reduction,
        train=train,
        validation=validation,
        statistics=statistics,
        history=tuple(history),
        iterations=Iterations(steps=domain, batch_size=batch_size),
        recipe=RecipeSummary(
            method=method.name,
            inner_optimiser=inner.name,
            outer_optimiser=describe_optimiser(optimiser),
            inner_steps=inner_steps,
            outer_steps=len(history),
            students=tuple(one.name for one in students),
            seeds=(seed,),
        ),
        cost=Cost(
            seconds=round(seconds, 3),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})",
            inner_steps=population * (len(history) * inner_steps + generations * warm_up),
        ),
    )
