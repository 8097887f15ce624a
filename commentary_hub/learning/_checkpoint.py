"""The state of a learning run between two outer steps: tensors and JSON values, nothing that can carry code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from commentary_hub.errors import InputError
from commentary_hub.learning._problem import State


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that a run needs to go on: ``step`` outer steps are done.

    ``tensors`` (name → tensor, on the CPU) and ``facts`` (JSON values) can be stored as safetensors and JSON. Random
    numbers need no state: each is a function of the run's seed and the step.
    """

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


Sink = Callable[[Checkpoint], None]


def check_same_run(checkpoint: Checkpoint, identity: dict[str, Any]) -> None:
    """Raise `InputError`, naming the first difference, where the checkpoint is of a run of another ``identity``."""
    for name, value in identity.items():
        other = checkpoint.facts["run"].get(name)
        if other != value:
            raise InputError(
                f"the checkpoint is of a run with {name} = {other}, this one has {value}: "
                "resume with the settings and data it began with, or remove the checkpoint to begin anew",
                setting=name,
            )


def describe_values(modules: Sequence[nn.Module]) -> list[str]:
    """32 hex digits over the tensors of each module."""
    return [_digest(module.state_dict()) for module in modules]


def check_same_start(checkpoint: Checkpoint, modules: Sequence[nn.Module]) -> list[str]:
    """What the run began from; raises `InputError` where ``modules`` hold neither that nor what the checkpoint holds.

    The latter is what a run that was interrupted leaves behind in the same process.
    """
    began: list[str] = checkpoint.facts["initial"]
    for at, (first, now) in enumerate(zip(began, describe_values(modules), strict=True)):
        prefix = f"commentary{at}."
        kept = {name.removeprefix(prefix): t for name, t in checkpoint.tensors.items() if name.startswith(prefix)}
        if now not in {first, _digest(kept)}:
            raise InputError(
                f"the checkpoint is of a run with other values in the beginning of commentary {at}: build it as it was "
                "built then, or remove the checkpoint to begin anew"
            )
    return began


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0".encode())
        if not is_lazy(tensor):
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def pack_module(name: str, module: nn.Module) -> dict[str, Tensor]:
    """A module's tensors under ``name``."""
    return {f"{name}.{key}": tensor.detach().cpu().clone() for key, tensor in module.state_dict().items()}


def unpack_module(name: str, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put them back; raises `InputError` where the checkpoint is of another module."""
    state = {key.removeprefix(f"{name}."): t for key, t in tensors.items() if key.startswith(f"{name}.")}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            f"the checkpoint does not fit {name} ({error}): resume with the settings it began with"
        ) from None


def pack_optimiser(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A torch optimiser's state as tensors and JSON values."""
    tensors, facts = {}, {}
    for index, values in optimiser.state_dict()["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"outer.{index}.{key}"] = value.detach().cpu().clone()
            else:
                facts[f"{index}.{key}"] = value
    return tensors, facts


def unpack_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Put them back."""
    state: dict[int, dict[str, Any]] = {}
    named = {key.removeprefix("outer."): value for key, value in tensors.items() if key.startswith("outer.")}
    for name, value in (named | facts).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def pack_student(name: str, state: State) -> dict[str, Tensor]:
    """A student's state under ``name``."""
    parts = zip(("parameters", "optimiser", "buffers"), state, strict=True)
    return {f"{name}.{part}.{at}": t.detach().cpu().clone() for part, group in parts for at, t in enumerate(group)}


def unpack_student(name: str, tensors: dict[str, Tensor], device: torch.device) -> State | None:
    """The student's state, or ``None`` where the checkpoint holds none of that name."""
    groups = []
    for part in ("parameters", "optimiser", "buffers"):
        prefix = f"{name}.{part}."
        found = {int(key.removeprefix(prefix)): t for key, t in tensors.items() if key.startswith(prefix)}
        groups.append(tuple(found[at].to(device) for at in range(len(found))))
    return State(*groups) if groups[0] else None
