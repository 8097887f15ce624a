"""A table of weights for tools that know no commentaries: parquet or CSV, by content key or by position."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from commentary_hub.artefact import StoredCommentary
from commentary_hub.commentaries import ExampleWeights
from commentary_hub.errors import InputError
from commentary_hub.reuse import bind, load

_CHUNK = 1 << 20


def export(
    commentary: StoredCommentary | str | os.PathLike[str],
    path: str | os.PathLike[str],
    dataset: Any = None,
    **options: Any,
) -> int:
    """Write the weights to ``path`` (``.parquet`` or ``.csv``) and return the number of lines.

    Without ``dataset`` a line for each row of the table, in its order: ``key`` and ``target`` (hexadecimal digests) and
    ``weight``, or ``weight_0`` … for several stages, as they are stored, in (0, 1). With ``dataset`` (and the
    ``options`` of `bind`) a line for each example, in the dataset's order, as `Binding.export` writes it. Only tables
    of weights can be exported: raises `InputError` for other kinds, other endings and folders that do not exist. Memory
    is bounded.
    """
    stored = commentary if isinstance(commentary, StoredCommentary) else load(commentary)
    target = Path(path)
    if target.suffix.lower() not in {".parquet", ".csv"}:
        raise InputError(f"{target} is none of .parquet, .csv: choose one of these endings")
    if not target.parent.is_dir():
        raise InputError(f"the folder {target.parent} of {target.name} does not exist: make it first, or name another")
    table = stored.commentary
    if not isinstance(table, ExampleWeights) or stored.rows is None:
        raise InputError(f"{stored.manifest.name} is of kind {stored.manifest.kind!r} and has no table of weights")
    if dataset is not None:
        binding = bind(stored, dataset, **options)
        binding.export(target)
        return len(binding)
    stages = table.logits.shape[1]
    names = ["weight"] if stages == 1 else [f"weight_{stage}" for stage in range(stages)]
    schema = pa.schema([("key", pa.string()), ("target", pa.string()), *((name, pa.float32()) for name in names)])
    kind = pa.parquet.ParquetWriter if target.suffix.lower() == ".parquet" else pa.csv.CSVWriter
    with kind(target, schema) as writer:
        for part in _parts(stored, table, names):
            writer.write_table(pa.table(part, schema=schema))
    return len(stored.rows.keys)


def _parts(stored: StoredCommentary, table: ExampleWeights, names: list[str]) -> Iterator[dict[str, Any]]:
    assert stored.rows is not None
    for low in range(0, len(stored.rows.keys), _CHUNK):
        rows = slice(low, low + _CHUNK)
        weights = table.logits[rows].detach().float().sigmoid().cpu().numpy()
        yield {
            "key": [bytes(key).hex() for key in np.ascontiguousarray(stored.rows.keys[rows])],
            "target": [bytes(digest).hex() for digest in np.ascontiguousarray(stored.rows.targets[rows])],
        } | {name: weights[:, stage] for stage, name in enumerate(names)}
