"""Where the tensors of an artefact lie in its files, read from the files' headers alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from commentary_hub.artefact._tensors import DTYPES
from commentary_hub.errors import TensorFileInvalid
from commentary_hub.manifest import Manifest, TensorInfo

_LENGTH_BYTES = 8
_FIRST_READ = 1 << 14  # holds the header of any artefact but one of hundreds of tensors
_MAX_HEADER = 1 << 24


class Source(Protocol):
    """Where an artefact lies: its manifest, and any range of bytes of any file that it describes."""

    @property
    def manifest(self) -> Manifest:
        """Its manifest."""
        ...

    @property
    def folder(self) -> Path:
        """What stands for it on this disk."""
        ...

    def read(self, name: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each span of a file: start to stop (exclusive), ascending and disjoint."""
        ...


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """The bytes ``begin`` to ``end`` of ``file`` are a tensor of ``shape`` and ``dtype``, row by row."""

    file: str
    begin: int
    end: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size_bytes(self) -> int:
        """All of it."""
        return self.end - self.begin

    @property
    def row_bytes(self) -> int:
        """One index of the first axis."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def tensor(self, content: bytes, *, rows: int | None = None) -> Tensor:
        """``content`` as a tensor of this dtype; of ``rows`` rows where it is only a part."""
        shape = self.shape if rows is None else (rows, *self.shape[1:])
        if not content:
            return torch.empty(shape, dtype=self.dtype)
        return torch.frombuffer(bytearray(content), dtype=self.dtype).reshape(shape)


def places(source: Source) -> dict[str, TensorPlace]:
    """Every tensor's place, by name; one or two reads for each file.

    Raises `TensorFileInvalid` where a header is no header, contradicts the manifest, or points outside its file.
    """
    manifest = source.manifest
    found: dict[str, TensorPlace] = {}
    for name in manifest.tensor_files:
        header, data = _header(source, name, manifest.files[name].size_bytes)
        for tensor, said in header.items():
            if tensor in found:
                raise TensorFileInvalid(f"tensor {tensor!r} lies in {found[tensor].file} and in {name}", tensor=tensor)
            if tensor != "__metadata__":
                found[tensor] = _place(name, tensor, said, manifest, data, manifest.files[name].size_bytes)
    return found


def _header(source: Source, name: str, size_bytes: int) -> tuple[dict[str, Any], int]:
    """A file's header and where its data begin."""
    start = source.read(name, [(0, min(_FIRST_READ, size_bytes))])[0]
    data = _LENGTH_BYTES + int.from_bytes(start[:_LENGTH_BYTES], "little")
    if len(start) < _LENGTH_BYTES or data > min(size_bytes, _MAX_HEADER):
        raise TensorFileInvalid(f"{name} is not a whole safetensors file: its header ends outside it", path=name)
    content = start if data <= len(start) else start + source.read(name, [(len(start), data)])[0]
    try:
        header = json.loads(content[_LENGTH_BYTES:data])
    except (ValueError, RecursionError) as error:
        raise TensorFileInvalid(f"{name} is not a safetensors file: {error}", path=name) from None
    if not isinstance(header, dict):
        raise TensorFileInvalid(f"{name} is not a safetensors file: its header is no object", path=name)
    return header, data


def _place(file: str, tensor: str, said: Any, manifest: Manifest, data: int, size_bytes: int) -> TensorPlace:
    expected = manifest.tensors.get(tensor)
    try:
        found = TensorInfo(shape=tuple(said["shape"]), dtype=said["dtype"])
        begin, end = (data + int(offset) for offset in said["data_offsets"])
        dtype = DTYPES[found.dtype]
    except (KeyError, TypeError, ValueError) as error:
        raise TensorFileInvalid(f"{file}: tensor {tensor!r} is not described: {error}", tensor=tensor) from None
    if found != expected or not data <= begin <= end <= size_bytes:
        raise TensorFileInvalid(
            f"{file}: tensor {tensor!r} is not what the manifest says, or lies outside the file: pull it again",
            tensor=tensor,
        )
    if end - begin != math.prod(found.shape) * dtype.itemsize:
        raise TensorFileInvalid(f"{file}: tensor {tensor!r} has not the bytes of its shape", tensor=tensor)
    return TensorPlace(file, begin, end, found.shape, dtype)
