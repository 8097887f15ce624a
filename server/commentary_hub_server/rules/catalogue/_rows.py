"""A commentary's rows, as a table: content key, target digest, and what the commentary says about the example."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import nanoarrow
from nanoarrow.ipc import StreamWriter

from commentary_hub.errors import InputError, TensorFileInvalid
from commentary_hub.manifest import KEYS_TENSOR, STATE_PREFIX, TARGETS_TENSOR
from commentary_hub_server.rules.catalogue._safetensors import Header, Read, TensorView, find_row, read_rows

MAX_ROWS = 1000
MAX_ROW_VALUES = 64  # of one tensor
_MAX_SHOWN = 256  # of all tensors together: an answer of 1,000 rows is built in memory
_KEY_BYTES, _TARGET_BYTES = 16, 8


@dataclass(frozen=True, slots=True)
class Row:
    """One row: hex ``key`` and ``target``; ``values`` by tensor name, as numbers or lists of numbers."""

    row: int
    key: str
    target: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RowTable:
    """Rows with the count of all rows in the commentary."""

    total: int
    rows: tuple[Row, ...]


def rows_by_range(read: Read, header: Header, first: int, count: int) -> RowTable:
    """Rows [first, first + count), at most 1000; raises `TensorFileInvalid` for a commentary without rows."""
    keys, targets = _tables(header)
    count = max(0, min(count, MAX_ROWS))
    key_bytes = read_rows(read, keys, first, count)
    target_bytes = read_rows(read, targets, first, count)
    values = {name: read_rows(read, tensor, first, count) for name, tensor in _shown(header, keys.shape[0])}
    rows = tuple(
        Row(first + at, bytes(key).hex(), bytes(target_bytes[at]).hex(), {name: values[name][at] for name in values})
        for at, key in enumerate(key_bytes)
    )
    return RowTable(keys.shape[0], rows)


def rows_by_key(read: Read, header: Header, key: str) -> RowTable:
    """The rows of one content key (32 hex digits); more than one where it was learned with several targets."""
    try:
        wanted = bytes.fromhex(key)
    except ValueError:
        wanted = b""
    if len(wanted) != _KEY_BYTES:
        raise InputError(f"a content key is 32 hex digits, got {key[:64]!r}", key=key)
    keys, _ = _tables(header)
    found = [rows_by_range(read, header, at, 1).rows[0] for at in find_row(read, keys, wanted)]
    return RowTable(keys.shape[0], tuple(found))


def arrow_stream(table: RowTable) -> bytes:
    """The rows as an Arrow IPC stream: row int64, key and target as text, one float64 column per shown number."""
    columns: dict[str, tuple[Any, list[Any]]] = {
        "row": (nanoarrow.int64(), [row.row for row in table.rows]),
        "key": (nanoarrow.string(), [row.key for row in table.rows]),
        "target": (nanoarrow.string(), [row.target for row in table.rows]),
    }
    for name, value in (table.rows[0].values if table.rows else {}).items():
        if isinstance(value, list):
            for at in range(len(value)):
                numbers = [_number(row.values[name][at]) for row in table.rows]
                columns[f"{name}.{at}"] = (nanoarrow.float64(), numbers)
        else:
            columns[name] = (nanoarrow.float64(), [_number(row.values[name]) for row in table.rows])
    schema = nanoarrow.struct({name: kind for name, (kind, _) in columns.items()})
    children = [nanoarrow.c_array(values, kind) for kind, values in columns.values()]
    batch = nanoarrow.c_array_from_buffers(schema, len(table.rows), [None], children=children)
    out = io.BytesIO()
    with StreamWriter.from_writable(out) as writer:
        writer.write_array(batch)
    return out.getvalue()


def _tables(header: Header) -> tuple[TensorView, TensorView]:
    keys, targets = header.find(KEYS_TENSOR), header.find(TARGETS_TENSOR)
    if keys is None or targets is None:
        raise TensorFileInvalid("this commentary has no rows: it speaks about every example by a rule")
    shapes = keys.shape == (keys.shape[0] if keys.shape else 0, _KEY_BYTES)
    if not shapes or targets.shape != (keys.shape[0], _TARGET_BYTES) or {keys.dtype, targets.dtype} != {"U8"}:
        raise TensorFileInvalid("the commentary's tables of keys and targets have other shapes than format 1 asks")
    return keys, targets


def _shown(header: Header, rows: int) -> list[tuple[str, TensorView]]:
    """The state's tensors that have one short row per example, as many as fit."""
    shown, left = [], _MAX_SHOWN
    for tensor in header.tensors:
        width = max(1, math.prod(tensor.shape[1:]))
        if tensor.name.startswith(STATE_PREFIX) and tensor.shape[:1] == (rows,) and width <= min(MAX_ROW_VALUES, left):
            shown.append((tensor.name.removeprefix(STATE_PREFIX), tensor))
            left -= width
    return shown


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
