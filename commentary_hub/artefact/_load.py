"""Reading an artefact: nothing in it is believed before it is checked, and no code is taken from it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from commentary_hub.artefact._rows import Rows
from commentary_hub.artefact._tensors import read_tensors
from commentary_hub.commentaries import Commentary, kind_class
from commentary_hub.errors import ManifestInvalid, TensorFileInvalid
from commentary_hub.manifest import (
    EVIDENCE_NAME,
    KEYS_TENSOR,
    STATE_PREFIX,
    STATISTICS_PREFIX,
    TARGETS_TENSOR,
    VALIDATION_TENSOR,
    Evidence,
    Manifest,
    read_manifest,
    tensor_digest,
    verify_folder,
)


@dataclass(frozen=True, slots=True)
class StoredCommentary:
    """A commentary as it lies on disk, ready to be bound to a dataset.

    ``commentary`` is the frozen module in evaluation mode; ``rows`` whose rows its table holds (``None`` for kinds
    without a table), sorted by key; ``validation_keys`` uint8 [M, 16] the examples that taught it; ``statistics``
    further tensors per row; ``evidence`` what was measured with exactly these tensors and settings, if anything.
    """

    folder: Path
    manifest: Manifest
    commentary: Commentary
    rows: Rows | None
    validation_keys: NDArray[np.uint8]
    statistics: dict[str, Tensor]
    evidence: Evidence | None

    def __repr__(self) -> str:
        """What it is and where it lies; no tensors and no manifest, which would fill the screen."""
        rows = "no rows" if self.rows is None else f"{len(self.rows.keys):,} rows"
        return f"StoredCommentary({self.manifest.name!r}, {self.manifest.kind!r}, {rows}, {str(self.folder)!r})"

    @property
    def tensor_digest(self) -> str:
        """The digest that evidence is bound to."""
        return tensor_digest(self.manifest.files)


def load(folder: str | os.PathLike[str], *, verify: bool = True) -> StoredCommentary:
    """Load the artefact in ``folder``.

    With ``verify`` every file is read once and compared with the manifest's digests; without, only headers are
    checked, and a table of 10⁸ rows opens in the time of one directory listing plus one scan for NaN. Tensors are
    memory-mapped. Raises the leaves of `ArtefactError`: missing or invalid manifest, newer format, digest mismatch,
    invalid tensors, unsafe file, unknown kind.
    """
    path = Path(folder)
    manifest = verify_folder(path) if verify else read_manifest(path)
    return assemble(path, manifest, read_tensors(path, manifest), _evidence(path, manifest))


def assemble(path: Path, manifest: Manifest, tensors: dict[str, Tensor], evidence: Evidence | None) -> StoredCommentary:
    """The commentary that ``tensors`` are, which came from ``path``; raises the leaves of `ArtefactError`."""
    cls = kind_class(manifest.kind)
    commentary = _build(cls, manifest, tensors)
    keys, targets = tensors.get(KEYS_TENSOR), tensors.get(TARGETS_TENSOR)
    rows = None
    if cls.row_tensors:
        if keys is None or targets is None:
            raise TensorFileInvalid(f"{path}: {KEYS_TENSOR} or {TARGETS_TENSOR} is missing", path=path)
        rows = Rows(_bytes(keys, 16, path), _bytes(targets, 8, path))
        for name in cls.row_tensors:
            if tensors[STATE_PREFIX + name].shape[0] != len(rows.keys):
                raise TensorFileInvalid(f"{path}: {name!r} has not one row per key", path=path, tensor=name)
    validation = tensors.get(VALIDATION_TENSOR)
    return StoredCommentary(
        folder=path,
        manifest=manifest,
        commentary=commentary.eval().requires_grad_(requires_grad=False),
        rows=rows,
        validation_keys=np.empty((0, 16), np.uint8) if validation is None else _bytes(validation, 16, path),
        statistics={
            n.removeprefix(STATISTICS_PREFIX): t for n, t in tensors.items() if n.startswith(STATISTICS_PREFIX)
        },
        evidence=evidence,
    )


def _build(cls: type[Commentary], manifest: Manifest, tensors: dict[str, Tensor]) -> Commentary:
    """The module with the stored tensors, not copied.

    Shapes are compared on the meta device, so that parameters that ask for a huge module cost nothing before the
    files have proved to hold one.
    """
    try:
        with torch.device("meta"):
            module = cls.from_config(manifest.parameters)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ManifestInvalid(
            f"parameters of kind {manifest.kind!r} cannot be read: {error}", kind=manifest.kind
        ) from error
    expected = module.state_dict()
    state = {n.removeprefix(STATE_PREFIX): t for n, t in tensors.items() if n.startswith(STATE_PREFIX)}
    for name in sorted(expected.keys() | state.keys()):
        wanted, found = expected.get(name), state.get(name)
        if wanted is None or found is None or wanted.shape != found.shape:
            raise TensorFileInvalid(
                f"tensor {name!r} is {'missing' if found is None else list(found.shape)}, kind {manifest.kind!r} with "
                f"these parameters expects {'nothing of that name' if wanted is None else list(wanted.shape)}",
                tensor=name,
            )
        if wanted.is_floating_point() != found.is_floating_point():
            raise TensorFileInvalid(
                f"tensor {name!r} is {found.dtype}, kind {manifest.kind!r} expects {wanted.dtype}", tensor=name
            )
    module.load_state_dict(state, assign=True)
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        # Buffers that are computed and not stored: now that the sizes are known to be small, build it for real.
        module = cls.from_config(manifest.parameters)
        module.load_state_dict(state, assign=True)
    return module


def _bytes(tensor: Tensor, width: int, path: Path) -> NDArray[np.uint8]:
    if tensor.dtype != torch.uint8 or tensor.dim() != 2 or tensor.shape[1] != width:
        raise TensorFileInvalid(f"{path}: keys must be uint8 [N, {width}], found {list(tensor.shape)}", path=path)
    array: NDArray[np.uint8] = tensor.numpy()
    return array


def _evidence(path: Path, manifest: Manifest) -> Evidence | None:
    """The evidence in the folder, if it was measured with this commentary."""
    file = path / EVIDENCE_NAME
    if not file.is_file():
        return None
    evidence = Evidence.from_json(file.read_bytes(), where=str(file))
    return evidence if evidence.describes(manifest) else None
