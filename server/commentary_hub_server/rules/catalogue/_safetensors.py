"""Look into a safetensors file without loading it: its header, and single rows of its tables.

Format: 8 bytes little-endian length of the header, the header as JSON, then the tensors' bytes, row-major.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from commentary_hub.errors import TensorFileInvalid

MAX_HEADER_BYTES = 1 << 20
MAX_TENSORS = 100_000
MAX_METADATA_CHARACTERS = 4096

Read = Callable[[int, int], bytes]
"""(start, length) → bytes of one file, fewer at its end."""

_WIDTHS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
_CODES = {
    "BOOL": "?", "U8": "B", "I8": "b", "U16": "H", "I16": "h", "F16": "e",
    "U32": "I", "I32": "i", "F32": "f", "U64": "Q", "I64": "q", "F64": "d",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorView:
    """One tensor: ``start`` counts from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size_bytes: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one slice along the first axis."""
        return math.prod(self.shape[1:]) * _WIDTHS[self.dtype] if self.shape else _WIDTHS[self.dtype]


@dataclass(frozen=True, slots=True)
class Header:
    """All tensors in the order of their bytes, and the file's own metadata."""

    tensors: tuple[TensorView, ...]
    metadata: dict[str, str]

    def find(self, name: str) -> TensorView | None:
        """The tensor of this name."""
        return next((tensor for tensor in self.tensors if tensor.name == name), None)


def read_header(read: Read, size_bytes: int) -> Header:
    """The header; two reads, at most 1 MiB. Raises `TensorFileInvalid` for a truncated or hostile one.

    Tensors must lie inside the file, must not overlap, and their bytes must be what dtype and shape ask.
    """
    prefix = read(0, 8)
    if len(prefix) < 8:
        raise TensorFileInvalid("the file is shorter than a safetensors header's length: it was cut short")
    length = struct.unpack("<Q", prefix)[0]
    if length > MAX_HEADER_BYTES or 8 + length > size_bytes:
        raise TensorFileInvalid(
            f"the header says it has {length} bytes; the file has {size_bytes}, and {MAX_HEADER_BYTES} are read at most"
        )
    text = read(8, length)
    try:
        raw = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise TensorFileInvalid(f"the header is not JSON: {error}") from None
    if len(text) != length or not isinstance(raw, dict) or len(raw) > MAX_TENSORS:
        raise TensorFileInvalid("the header is not a JSON object of tensors")
    metadata = raw.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise TensorFileInvalid("the header's __metadata__ is not a mapping of text to text")
    tensors = sorted((_tensor(name, value, 8 + length) for name, value in raw.items()), key=lambda view: view.start)
    at = 8 + length
    for tensor in tensors:
        if tensor.start != at:
            raise TensorFileInvalid(f"tensor {tensor.name!r} overlaps another or leaves a hole", tensor=tensor.name)
        at += tensor.size_bytes
    if at > size_bytes:
        raise TensorFileInvalid(f"the tensors need {at} bytes, the file has {size_bytes}: it was cut short")
    return Header(tuple(tensors), {name: value[:MAX_METADATA_CHARACTERS] for name, value in metadata.items()})


def read_rows(read: Read, tensor: TensorView, first: int, count: int) -> list[Any]:
    """Rows [first, first + count) as Python numbers (nested lists flattened to one list per row; scalars for [N]).

    Non-finite numbers become ``None``, because JSON has no word for them. One read.
    """
    rows = tensor.shape[0] if tensor.shape else 1
    first, last = max(0, min(first, rows)), max(0, min(first + count, rows))
    data = read(tensor.start + first * tensor.row_bytes, (last - first) * tensor.row_bytes)
    if len(data) != (last - first) * tensor.row_bytes:
        raise TensorFileInvalid(f"tensor {tensor.name!r} was cut short", tensor=tensor.name)
    code = _CODES.get(tensor.dtype)
    if code is None:
        raise TensorFileInvalid(f"rows of dtype {tensor.dtype} cannot be shown", tensor=tensor.name)
    numbers = struct.unpack(f"<{len(data) // struct.calcsize(code)}{code}", data)
    # One sum tells whether all are finite, for a tenth of the time of asking each.
    values = list(numbers) if code not in "efd" or math.isfinite(sum(numbers)) else [_finite(one) for one in numbers]
    if len(tensor.shape) <= 1:
        return values
    width = math.prod(tensor.shape[1:])
    return [values[at * width : (at + 1) * width] for at in range(last - first)]


def find_row(read: Read, keys: TensorView, key: bytes) -> list[int]:
    """The rows of a content key in a sorted ``[N, 16]`` table of keys: binary search, about log2(N) small reads.

    One key can have several rows, one per target it was learned with.
    """
    low, high = 0, keys.shape[0]
    while low < high:
        middle = (low + high) // 2
        if read(keys.start + middle * len(key), len(key)) < key:
            low = middle + 1
        else:
            high = middle
    found: list[int] = []
    while low < keys.shape[0] and len(found) < 100 and read(keys.start + low * len(key), len(key)) == key:
        found.append(low)
        low += 1
    return found


def _tensor(name: str, value: Any, base: int) -> TensorView:
    try:
        dtype, shape, (begin, end) = value["dtype"], value["shape"], value["data_offsets"]
        numbers = [*shape, begin, end]
        if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers) or len(shape) > 16:
            raise ValueError(shape)
        wanted = math.prod(shape) * _WIDTHS[dtype]
    except (KeyError, TypeError, ValueError):
        raise TensorFileInvalid(f"tensor {name!r} is not described as safetensors asks", tensor=name) from None
    if end - begin != wanted:
        raise TensorFileInvalid(f"tensor {name!r} has {end - begin} bytes, its shape asks {wanted}", tensor=name)
    return TensorView(name, dtype, tuple(shape), base + begin, wanted)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
