"""Where a run's checkpoints lie: one safetensors file beside the artefact that is to come."""

from __future__ import annotations

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from commentary_hub.errors import InputError
from commentary_hub.learning import Checkpoint


class CheckpointFile:
    """A sink for `learn` that keeps a run's last checkpoint in ``folder``; what is there is replaced in one move."""

    def __init__(self, folder: Path, *, run: int = 0) -> None:
        self.path = folder / (f"checkpoint-{run}.safetensors" if run else "checkpoint.safetensors")

    def __call__(self, checkpoint: Checkpoint) -> None:
        """Keep ``checkpoint``; the one before stays whole until this one is on disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".writing")
        facts = {"step": str(checkpoint.step), "facts": json.dumps(checkpoint.facts)}
        save_file({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}, fresh, metadata=facts)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(self.path)

    def read(self) -> Checkpoint | None:
        """The last checkpoint, ``None`` where there is none; raises `InputError` where it cannot be read."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                facts = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return Checkpoint(int(facts["step"]), tensors, json.loads(facts["facts"]))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the checkpoint {self.path} cannot be read ({error}): begin again with --restart", path=self.path
            ) from error

    def remove(self) -> None:
        """The run has ended well: its checkpoint is not needed any more."""
        self.path.unlink(missing_ok=True)
