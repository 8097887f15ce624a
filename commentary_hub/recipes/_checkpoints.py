"""Where a run's checkpoints lie: one safetensors file beside the artefact that is to come."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from commentary_hub.errors import InputError
from commentary_hub.learning import Checkpoint


class CheckpointFile:
    """A sink for `learn` that keeps a run's last checkpoint in ``folder``; what is there is replaced in one move.

    ``recipe`` says what is learned (any text, such as a digest): a checkpoint that was written with another one is
    refused. From Python, a run that was killed goes on with::

        file = CheckpointFile("checkpoints")
        learned = learn(..., sink=file, resume=file.read())
    """

    def __init__(self, folder: str | os.PathLike[str], *, run: int = 0, recipe: str | None = None) -> None:
        self.path = Path(folder) / (f"checkpoint-{run}.safetensors" if run else "checkpoint.safetensors")
        self._recipe = recipe

    def __call__(self, checkpoint: Checkpoint) -> None:
        """Keep ``checkpoint``; the one before stays whole until this one is on disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".writing")
        facts = {"step": str(checkpoint.step), "facts": json.dumps(checkpoint.facts)}
        if self._recipe is not None:
            facts["recipe"] = self._recipe
        save_file({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}, fresh, metadata=facts)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(self.path)

    def check(self) -> None:
        """Raise `InputError` where `read` would, for the cost of a header."""
        if self.path.is_file():
            self._facts()

    def read(self) -> Checkpoint | None:
        """The last checkpoint, ``None`` where there is none.

        Raises `InputError` where it cannot be read, or where another recipe wrote it.
        """
        if not self.path.is_file():
            return None
        facts = self._facts()
        with self._reading(), safe_open(self.path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return Checkpoint(int(facts["step"]), tensors, json.loads(facts["facts"]))

    def remove(self) -> None:
        """The run has ended well: its checkpoint is not needed any more."""
        self.path.unlink(missing_ok=True)

    def _facts(self) -> dict[str, str]:
        """What stands in the header."""
        with self._reading(), safe_open(self.path, framework="pt") as file:
            facts = dict(file.metadata())
        if self._recipe is not None and facts.get("recipe") != self._recipe:
            raise InputError(
                f"the checkpoint in {self.path.parent} was written by another recipe: --restart begins anew, or "
                "restore the recipe",
                path=self.path,
            )
        return facts

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the checkpoint {self.path} cannot be read ({error}): begin again with --restart", path=self.path
            ) from error
