"""What goes into a learning run and what comes out of it, besides numbers: students, and the record of the run."""

from __future__ import annotations

import hashlib
import json
import platform
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from commentary_hub.commentaries import Commentary, ExampleWeights, Reduction
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
    (students, initialisations, batches): those of the first table by these names, those of a further one behind its
    place in ``commentaries`` (``1.mean``); `statistics_of` finds each. ``history`` holds a line per outer step.
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

    def statistics_of(self, commentary: Commentary) -> dict[str, Tensor]:
        """``mean`` and ``variance`` of one of the commentaries, empty for what is no table; `InputError` for others."""
        at = next((at for at, one in enumerate(self.commentaries) if one is commentary), None)
        if at is None:
            kinds = ", ".join(one.kind for one in self.commentaries)
            raise InputError(
                f"this commentary of kind {commentary.kind!r} is none of those that were learned ({kinds}): "
                "hand over one of Learned.commentaries",
                kind=commentary.kind,
            )
        if not isinstance(commentary, ExampleWeights):
            return {}
        names = {name: f"{statistics_prefix(self.commentaries, at)}{name}" for name in ("mean", "variance")}
        return {name: self.statistics[stored] for name, stored in names.items() if stored in self.statistics}


def statistics_prefix(commentaries: Sequence[Commentary], at: int) -> str:
    """What stands before a statistic's name in `Learned` for the table that is commentary ``at``."""
    first = not any(isinstance(one, ExampleWeights) for one in commentaries[:at])
    return "" if first else f"{at}."


def describe_optimiser(optimiser: torch.optim.Optimizer) -> str:
    """Its name and the learning rate that it began with, whatever a schedule has made of it since."""
    lr = optimiser.param_groups[0].get("initial_lr", optimiser.defaults.get("lr"))
    return type(optimiser).__name__.lower() + ("" if lr is None else f"(lr={float(lr):g})")


def describe_examples(examples: Examples) -> str:
    """32 hex digits over keys and targets, in order: what a run that goes on must find again."""
    return fingerprint(np.concatenate([examples.keys, examples.target_digests], axis=1))


def describe_function(function: object) -> str | None:
    """A caller's function by its module and name, ``None`` where there is none; a `partial` with what it was given.

    Functions within functions and lambdas share their names: they come with a digest of what they do and remember.
    """
    if function is None:
        return None
    if isinstance(function, partial):
        given = [*map(_said, function.args), *(f"{name}={_said(value)}" for name, value in function.keywords.items())]
        return f"{describe_function(function.func)}({', '.join(given)})"
    known: Any = function if hasattr(function, "__qualname__") else type(function)
    name = f"{known.__module__}.{known.__qualname__}"
    return f"{name}#{_digest_of_code(known)}" if "<" in known.__qualname__ and hasattr(known, "__code__") else name


def _digest_of_code(function: Any) -> str:
    """8 hex digits over what it does, and the plain values among its defaults and those that it closed over."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]
    given = [function.__code__, function.__defaults__, function.__kwdefaults__, cells]
    return hashlib.sha256(_plain(given).encode()).hexdigest()[:8]


def _plain(value: Any) -> str:
    """Numbers, texts, code and what holds them, the same in every process; of anything else the type alone."""
    if isinstance(value, types.CodeType):
        return f"{value.co_code!r} {value.co_names} {_plain(value.co_consts)}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_plain(key)}: {_plain(one)}" for key, one in value.items()) + "}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_plain, value)))}}}"
    return repr(value) if isinstance(value, bool | int | float | complex | str | bytes | None) else str(type(value))


def _said(value: object) -> str:
    return repr(value) if isinstance(value, bool | int | float | str) else str(describe_function(value))


def describe_parameters(module: nn.Module) -> str:
    """How many there are, and 16 hex digits over their names, shapes, types and which of them are frozen."""
    parameters = dict(module.named_parameters())
    lines = [
        f"{name} {None if is_lazy(p) else list(p.shape)} {p.dtype} {p.requires_grad}" for name, p in parameters.items()
    ]
    size = sum(0 if is_lazy(p) else p.numel() for p in parameters.values())
    return f"{size} in {len(lines)} tensors, {hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:16]}"


def describe_commentary(commentary: Commentary) -> dict[str, Any]:
    """Kind, settings (``None`` where a module of the caller's own has none to name) and parameters."""
    try:
        config: dict[str, Any] | None = commentary.config()
    except (InputError, NotImplementedError):
        config = None
    return {"kind": commentary.kind, "config": config, "parameters": describe_parameters(commentary)}


def as_json(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts as they come back from a file, so that both can be compared; what is no JSON is named instead."""
    found: dict[str, Any] = json.loads(json.dumps(facts, default=describe_function))
    return found


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
