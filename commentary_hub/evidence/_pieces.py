"""Finished pieces of an evaluation, kept so that an interrupted one goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Protocol

import torch

from commentary_hub.data import Examples
from commentary_hub.evidence._arms import Arm
from commentary_hub.evidence._train import StudentLike


class Pieces(Protocol):
    """Where finished pieces are kept: JSON values under keys."""

    def get(self, key: str) -> dict[str, Any] | None:
        """The piece, or ``None``."""
        ...

    def put(self, key: str, piece: dict[str, Any]) -> None:
        """Keep a piece."""
        ...


class PieceFolder:
    """Pieces as JSON files in a folder (made when needed); a piece is either whole or not there."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)

    def get(self, key: str) -> dict[str, Any] | None:
        """The piece; ``None`` where there is none, or where its file cannot be read as JSON."""
        try:
            piece = json.loads((self._folder / f"{key}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return piece if isinstance(piece, dict) else None

    def put(self, key: str, piece: dict[str, Any]) -> None:
        """Write the piece beside its place, then move it there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = self._folder / f".{key}.{os.getpid()}"
        fresh.write_text(json.dumps(piece), encoding="utf-8")
        fresh.replace(self._folder / f"{key}.json")


def digest_of(text: str) -> str:
    """A name for what a text says, 32 hexadecimal digits.

    >>> digest_of("steps = 60") == digest_of("steps = 60") != digest_of("steps = 61")
    True
    """
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def piece_key(student: StudentLike, arm: Arm, measured: tuple[Examples, ...], settings: tuple[Any, ...]) -> str:
    """A digest of everything that a piece depends on and that can be told from outside.

    The student's architecture is known by its name and by how its modules print themselves, functions in an arm
    (``change``, ``sees``, ``wrap``) by the arm's name, note and mark.
    """
    with torch.random.fork_rng(devices=[]):
        built = str(student.build())
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((student.name, built, arm.name, settings)).encode())
    for choice in arm.choices:
        digest.update(repr((choice.note, choice.mark, choice.reduction, choice.smoothing, choice.trimmed)).encode())
        if choice.weights is not None:
            digest.update(choice.weights.float().numpy().tobytes())
    for part in (*(choice.examples for choice in arm.choices), *measured):
        digest.update(part.keys.tobytes())
        digest.update(part.targets.numpy().tobytes())
        digest.update(part.inputs.numpy().tobytes())
    return digest.hexdigest()
