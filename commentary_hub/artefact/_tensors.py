"""Tensor files: written sharded as the ecosystem does, read by memory map, and believed only after a check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor

from commentary_hub.errors import TensorFileInvalid
from commentary_hub.manifest import TENSORS_NAME, Manifest, TensorInfo

_PATTERN = TENSORS_NAME.replace(".safetensors", "{suffix}.safetensors")
_FINITE_CHUNK = 1 << 24


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], *, max_shard_size: str = "5GB") -> None:
    """Write ``tensors`` as safetensors, with an index once they need more than one shard."""
    check_finite(tensors, where=folder / TENSORS_NAME)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_torch_state_dict(contiguous, folder, filename_pattern=_PATTERN, max_shard_size=max_shard_size)


def read_tensors(folder: Path, manifest: Manifest) -> dict[str, Tensor]:
    """All tensors of an artefact, memory-mapped: pages are read from disk when they are touched.

    The files are those that the manifest names and its digests cover; an index beside them is for other tools. A header
    must agree with the manifest before any tensor is used: same names, shapes and dtypes. Raises `TensorFileInvalid`
    for a truncated or hostile file, a tensor that the manifest does not know or that lies in two files, and for NaN or
    infinity.
    """
    tensors: dict[str, Tensor] = {}
    for name in manifest.tensor_files:
        path = folder / name
        try:
            with safe_open(path, framework="pt") as file:
                for tensor_name in file.keys():  # noqa: SIM118  (safe_open is no mapping)
                    expected = manifest.tensors.get(tensor_name) if tensor_name not in tensors else None
                    piece = file.get_slice(tensor_name)
                    found = TensorInfo(shape=tuple(piece.get_shape()), dtype=piece.get_dtype())
                    if expected != found:
                        raise TensorFileInvalid(
                            f"{path}: tensor {tensor_name!r} is {_describe(found)}, the manifest says "
                            f"{_describe(expected)}: save the commentary again",
                            path=path,
                            tensor=tensor_name,
                        )
                    tensors[tensor_name] = file.get_tensor(tensor_name)
        except (SafetensorError, OSError, ValueError) as error:
            if isinstance(error, TensorFileInvalid):
                raise
            raise TensorFileInvalid(
                f"{path} is not a whole safetensors file ({error}): pull the commentary again", path=path
            ) from None
    missing = sorted(manifest.tensors.keys() - tensors.keys())
    if missing:
        raise TensorFileInvalid(f"{folder}: tensor {missing[0]!r} is missing: pull the commentary again", path=folder)
    check_finite(tensors, where=folder / TENSORS_NAME)
    return tensors


def describe_tensors(tensors: Mapping[str, Tensor]) -> dict[str, TensorInfo]:
    """Shapes and dtypes in safetensors' spelling."""
    return {name: TensorInfo(shape=tuple(t.shape), dtype=_NAMES[t.dtype]) for name, t in sorted(tensors.items())}


def check_finite(tensors: Mapping[str, Tensor], *, where: Path) -> None:
    """Raise `TensorFileInvalid` where a floating tensor holds NaN or infinity; chunked, so that memory is bounded."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        for chunk in torch.split(tensor.detach().reshape(-1), _FINITE_CHUNK):
            if not bool(torch.isfinite(chunk).all()):
                raise TensorFileInvalid(
                    f"{where}: tensor {name!r} holds NaN or infinity: a commentary of such weights is refused; "
                    "learn again with a smaller outer learning rate",
                    path=where,
                    tensor=name,
                )


def _describe(info: TensorInfo | None) -> str:
    return "nothing more of that name" if info is None else f"{info.dtype} {list(info.shape)}"


DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The dtypes of an artefact's tensors, by their names in safetensors."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
