"""Writing an artefact: a folder that says what it is and proves that it is whole."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from commentary_hub.artefact._card import card_body
from commentary_hub.artefact._rows import Rows, merge_rows
from commentary_hub.artefact._tensors import describe_tensors, write_tensors
from commentary_hub.commentaries import Commentary, Reduction
from commentary_hub.errors import ArtefactError, InputError, ShapeError
from commentary_hub.manifest import (
    CARD_NAME,
    EVIDENCE_NAME,
    KEYS_TENSOR,
    MANIFEST_NAME,
    RECIPE_NAME,
    STATE_PREFIX,
    STATISTICS_PREFIX,
    TARGETS_TENSOR,
    TENSORS_INDEX_NAME,
    VALIDATION_TENSOR,
    Cost,
    DatasetBinding,
    Evidence,
    FileDigest,
    Iterations,
    Manifest,
    Parent,
    RecipeSummary,
    artefact_files,
    read_manifest,
    render_card,
)

PLOTS_FOLDER = "plots"
CAPTIONS_NAME = "captions.json"
_PACKAGES = ("commentary-hub", "torch", "numpy", "safetensors")


def save(
    folder: str | os.PathLike[str],
    commentary: Commentary,
    *,
    name: str,
    dataset: DatasetBinding,
    loss_reduction: Reduction,
    rows: Rows | None = None,
    validation_keys: NDArray[np.uint8] | None = None,
    statistics: Mapping[str, Tensor] | None = None,
    iterations: Iterations | None = None,
    batch_norm: str = "none",
    recipe: RecipeSummary | None = None,
    recipe_toml: str | None = None,
    cost: Cost | None = None,
    parents: Sequence[Parent] = (),
    licence: str | None = None,
    description: str = "",
    max_shard_size: str = "5GB",
) -> Manifest:
    """Write ``commentary`` to ``folder`` and return its manifest.

    ``rows`` says whose rows the commentary's table holds (needed by kinds with ``row_tensors``); they are sorted by
    content key, and rows of equal content and target become one, their mean. ``statistics`` are further tensors
    [rows, …], such as ``mean`` and ``variance`` over seeds, stored in the same order.

    Everything is written beside ``folder`` first and moved into place with the manifest last, so that an artefact is
    either whole or recognisably not one; an existing artefact in ``folder`` is replaced. Raises `TensorFileInvalid`
    for NaN, `ShapeError` where rows and table disagree, `ArtefactError` when the disk is full. Cost: one pass over the
    tensors and one digest of every file.
    """
    target = Path(folder)
    stored, tensors = _stored_tensors(commentary, rows, validation_keys, statistics or {})
    config = commentary.config() | ({"rows": len(stored.keys)} if stored is not None else {})
    manifest = _described(
        name=name,
        kind=commentary.kind,
        parameters=config,
        tensors=describe_tensors(tensors),
        value_range=commentary.value_range,
        loss_reduction=loss_reduction,
        iterations=iterations,
        batch_norm=batch_norm,
        dataset=dataset,
        recipe=recipe,
        versions=library_versions(),
        cost=cost,
        parents=tuple(parents),
        licence=licence,
        description=description,
    )
    with _staging(target) as staging:
        write_tensors(staging, tensors, max_shard_size=max_shard_size)
        if recipe_toml is not None:
            _write(staging / RECIPE_NAME, recipe_toml)
        return _finish(staging, manifest, evidence=None, plots=())


def attach(
    folder: str | os.PathLike[str],
    *,
    evidence: Evidence | None = None,
    plots: Mapping[str, tuple[bytes, str]] | None = None,
) -> Manifest:
    """Add ``evidence.json`` and pictures to an artefact and write its card and manifest anew.

    ``plots`` maps a file name to (PNG bytes, alternative text). Raises `ArtefactError` when the evidence belongs to
    another commentary: a verdict is about the numbers that were measured.
    """
    target = Path(folder)
    manifest = read_manifest(target)
    if evidence is not None and not evidence.describes(manifest):
        raise ArtefactError(
            f"the evidence was measured with other tensors or settings than {target} holds: evaluate this commentary "
            "again",
            folder=target,
        )
    with _staging(target) as staging:
        for name in _own_files(target, manifest):
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(target / name, staging / name)
        captions = _captions(staging)
        for name, (content, caption) in (plots or {}).items():
            (staging / PLOTS_FOLDER).mkdir(exist_ok=True)
            (staging / PLOTS_FOLDER / name).write_bytes(content)
            captions[name] = caption
        if captions:
            _write(staging / PLOTS_FOLDER / CAPTIONS_NAME, json.dumps(captions, indent=2, sort_keys=True) + "\n")
        if evidence is None and (staging / EVIDENCE_NAME).is_file():
            evidence = Evidence.from_json((staging / EVIDENCE_NAME).read_bytes())
        return _finish(staging, manifest, evidence=evidence, plots=sorted(captions.items()))


def _own_files(folder: Path, manifest: Manifest) -> list[str]:
    """What belongs to the artefact, and what only may lie there when it is added by hand: recipe and evidence."""
    names = {*manifest.files, RECIPE_NAME, EVIDENCE_NAME}
    return [name for name in artefact_files(folder) if name in names]


def _described(**facts: Any) -> Manifest:
    """The manifest; raises `InputError` where what the caller said does not fit into one."""
    try:
        return Manifest(**facts)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        rule = "begin with a letter or digit, then letters, digits, '.', '_' and '-', 96 in all"
        said = rule if first["type"] == "string_pattern_mismatch" and place == "name" else first["msg"]
        raise InputError(f"{place} is {first['input']!r:.80}: {said}", place=place) from None


def _captions(folder: Path) -> dict[str, str]:
    """The alternative texts of the pictures that are there already."""
    path = folder / PLOTS_FOLDER / CAPTIONS_NAME
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def library_versions() -> dict[str, str]:
    """Versions of Python and of the packages that an artefact's numbers depend on."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _stored_tensors(
    commentary: Commentary,
    rows: Rows | None,
    validation_keys: NDArray[np.uint8] | None,
    statistics: Mapping[str, Tensor],
) -> tuple[Rows | None, dict[str, Tensor]]:
    state = commentary.state_dict()
    tensors: dict[str, Tensor] = {}
    stored: Rows | None = None
    if commentary.row_tensors:
        if rows is None:
            raise InputError(f"a commentary of kind {commentary.kind!r} has one row per example: say whose (rows=)")
        stored, stored_row = rows.sort()
        for source in (*(state[name] for name in commentary.row_tensors), *statistics.values()):
            if source.shape[0] != len(rows.keys):
                raise ShapeError(
                    f"the table has {source.shape[0]} rows, but {len(rows.keys)} keys were given: one key per row",
                    tensor="rows",
                )
        state = state | {n: merge_rows(state[n], stored_row, len(stored.keys)) for n in commentary.row_tensors}
        tensors |= {STATISTICS_PREFIX + n: merge_rows(t, stored_row, len(stored.keys)) for n, t in statistics.items()}
        tensors |= {KEYS_TENSOR: torch.from_numpy(stored.keys), TARGETS_TENSOR: torch.from_numpy(stored.targets)}
    if validation_keys is not None and len(validation_keys):
        tensors[VALIDATION_TENSOR] = torch.from_numpy(np.unique(validation_keys, axis=0))
    tensors |= {STATE_PREFIX + name: tensor for name, tensor in state.items()}
    return stored, tensors


def _finish(
    staging: Path, manifest: Manifest, *, evidence: Evidence | None, plots: Sequence[tuple[str, str]]
) -> Manifest:
    """Write evidence, card and, last, the manifest with the digests of all the others."""
    if evidence is not None:
        _write(staging / EVIDENCE_NAME, evidence.to_json())
    _write(staging / CARD_NAME, render_card(manifest, card_body(manifest, evidence, plots)))
    files = {name: FileDigest.of_file(staging / name) for name in artefact_files(staging)}
    manifest = manifest.model_copy(update={"files": files})
    _write(staging / MANIFEST_NAME, manifest.to_json())
    return manifest


def _write(path: Path, text: str) -> None:
    """The same bytes wherever it is written: a digest is taken of them."""
    path.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` whose files take their places, manifest last, when the block ends well."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=target) as name:
            staging = Path(name)
            yield staging
            _move_into_place(staging, target)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST}:
            raise
        raise ArtefactError(
            f"cannot save to {target}: {error.strerror}; free some space or choose another folder, then save again "
            "(what was there before is untouched)",
            folder=target,
        ) from error


def _move_into_place(staging: Path, target: Path) -> None:
    for path in staging.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    fresh = artefact_files(staging)
    for name in _replaced_files(target):
        if name not in fresh:
            (target / name).unlink(missing_ok=True)
    (target / MANIFEST_NAME).unlink(missing_ok=True)
    for name in fresh:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).replace(target / name)
    (staging / MANIFEST_NAME).replace(target / MANIFEST_NAME)


def _replaced_files(target: Path) -> tuple[str, ...]:
    """What an older artefact in ``target`` consists of; nothing else in the folder is touched."""
    try:
        files = read_manifest(target).files
    except ArtefactError:
        return (TENSORS_INDEX_NAME,)
    return tuple(name for name in files if (target / name).resolve().is_relative_to(target.resolve()))
