"""The examples as a dataset holds them: before ``transform=``, in whatever container they come.

A content key must be taken from the raw example. This module finds it in Hugging Face datasets (by column),
torchvision datasets (whose ``transform``, ``target_transform`` and ``transforms`` it sees past), ``Subset``,
``ConcatDataset``, `Wrapping`, ``TensorDataset`` and any map-style dataset of pairs or dictionaries.
"""

from __future__ import annotations

import copy
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset
from torchvision.datasets import CIFAR10, CIFAR100, EMNIST, KMNIST, MNIST, FashionMNIST, ImageFolder
from torchvision.datasets.folder import default_loader

from commentary_hub.data._columns import Columns, find_columns, pick, sample_columns
from commentary_hub.data._examples import Examples
from commentary_hub.errors import InputError

Indices = NDArray[np.int64]
CHUNK = 1024
_IN_MEMORY = (MNIST, FashionMNIST, KMNIST, EMNIST, CIFAR10, CIFAR100)


class RawExamples(ABC):
    """Raw (value, target) pairs, a map-style dataset itself; ``classes`` names the classes where the dataset does."""

    classes: tuple[str, ...] | None = None
    names: tuple[str, ...] = ()
    """The columns that an example is made of, where the dataset has columns."""
    identity: str | None = None
    """Equal for equal examples in equal order, told without reading them; ``None`` where that can't be known."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, rows: Indices) -> tuple[list[Any], list[Any]]:
        """The raw values and targets of ``rows``, in that order."""

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        if not 0 <= row < len(self):
            raise IndexError(row)
        values, targets = self.read(np.array([row]))
        return values[0], targets[0]

    def column(self, name: str) -> list[Any]:
        """Another column of the dataset, such as its examples' names; raises `InputError` where there is none."""
        raise InputError(f"the dataset has no columns, so none called {name!r}: hand its values over as a list")

    def chunks(self, rows: Indices | None = None, *, size: int = CHUNK) -> Iterator[tuple[list[Any], list[Any]]]:
        """All examples (or those of ``rows``), ``size`` at a time."""
        order = np.arange(len(self)) if rows is None else rows
        for low in range(0, len(order), size):
            yield self.read(order[low : low + size])


class Wrapping:
    """What adds something to the samples of another dataset, its ``source``, in the same order.

    Examples that shuffle by epoch are told it (``set_epoch``) through their wrapping, which has that method where the
    source has it: training loops ask whether it is there.
    """

    source: Any

    def __getattr__(self, name: str) -> Any:
        if name == "set_epoch" and "source" in vars(self):
            return self.source.set_epoch
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def raw_examples(dataset: Any, *, inputs: str | None = None, targets: str | None = None) -> RawExamples:
    """See past the transforms of a map-style ``dataset``; ``inputs`` and ``targets`` name columns where it has some.

    Raises `InputError` for an empty dataset, one without length or items, columns that cannot be told, or `Examples`,
    which hold what a student sees.
    """
    if isinstance(dataset, RawExamples):
        return dataset
    check_opened(dataset)
    if isinstance(dataset, Examples):
        raise InputError(
            "these examples are opened already, and hold what a student sees instead of the raw examples: use them as "
            "they are (a part of them is examples.subset), or give the dataset that they were opened from"
        )
    if isinstance(dataset, Wrapping):
        return raw_examples(dataset.source, inputs=inputs, targets=targets)
    if isinstance(dataset, datasets.Dataset):
        if len(dataset) == 0:
            raise InputError("the dataset is empty: give one with examples")
        return _Table(dataset, find_columns(dataset.features, inputs=inputs, targets=targets))
    if isinstance(dataset, Subset):
        return _Selected(raw_examples(dataset.dataset, inputs=inputs, targets=targets), dataset.indices)
    if isinstance(dataset, ConcatDataset):
        return _Joined([raw_examples(part, inputs=inputs, targets=targets) for part in dataset.datasets])
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise InputError(
            f"{type(dataset).__name__} has no length and items: give a map-style dataset, "
            "or use bind_stream for an iterable one"
        )
    if len(dataset) == 0:
        raise InputError(f"the dataset ({type(dataset).__name__}) is empty: give one with examples")
    return _Items(dataset, inputs=inputs, targets=targets)


def check_opened(dataset: Any) -> None:
    """Raise `InputError` for what only stands for a dataset: a name, a dictionary of splits, a loader, a data frame."""
    if isinstance(dataset, (str, bytes, os.PathLike)):
        raise InputError(f"{str(dataset)!r} is a name and no dataset: open it first, as with datasets.load_dataset")
    if isinstance(dataset, Mapping):
        names = ", ".join(map(str, dataset))
        raise InputError(f"{type(dataset).__name__} holds several datasets ({names}): give one of them")
    if isinstance(dataset, DataLoader):
        raise InputError("a DataLoader gives batches: give its dataset, and make a DataLoader of what comes back")
    if type(dataset).__name__ == "DataFrame":  # of pandas or polars, which need not be installed
        raise InputError("a DataFrame is no dataset of examples: use datasets.Dataset.from_pandas(df), or from_polars")


class _Table(RawExamples):
    """A Hugging Face dataset, read by column; formats and on-the-fly transforms set on it are seen past."""

    def __init__(self, dataset: datasets.Dataset, columns: Columns) -> None:
        self._columns = columns
        wanted = [*columns.inputs, *([columns.target] if columns.target is not None else [])]
        plain = dataset.with_format(None).select_columns(wanted)
        if columns.form == "image":
            plain = plain.cast_column(columns.inputs[0], datasets.Image(decode=False))
        self._rows = plain
        self._all = dataset.with_format(None)
        self.classes = columns.classes
        self.names = columns.inputs
        files = _linked_identity(plain, columns.inputs[0]) if columns.form == "image" else ""
        self.identity = None if files is None else digest("table", dataset._fingerprint, repr(columns), files)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, rows: Indices) -> tuple[list[Any], list[Any]]:
        span = _as_slice(rows)
        batch = self._rows[span if span is not None else rows.tolist()]
        values = self._columns.values(batch)
        if self._columns.form == "image":
            values = [decode_image(cell) for cell in values]
        targets = batch[self._columns.target] if self._columns.target is not None else [None] * len(rows)
        return values, list(targets)

    def column(self, name: str) -> list[Any]:
        if name not in self._all.column_names:
            raise InputError(f"no column {name!r}: the dataset has {', '.join(self._all.column_names)}", column=name)
        return list(self._all[name])


class _Items(RawExamples):
    """Any map-style dataset, with its own transforms out of the way."""

    def __init__(self, dataset: Any, *, inputs: str | None, targets: str | None) -> None:
        self._dataset = untransformed(dataset)
        self._names: tuple[str, str | None] | None = None
        try:
            sample = self._dataset[0]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if self._dataset is dataset:
                raise
            raise InputError(
                f"{type(dataset).__name__} works on what its transform makes ({type(error).__name__}: {error}), so "
                "that its raw examples cannot be seen past it: bind the dataset without its transform, and transform "
                "afterwards (a dataset around binding.dataset, or a collate function)"
            ) from error
        if isinstance(sample, Mapping):
            self._names = sample_columns(sample, inputs=inputs, targets=targets)
        pick(sample, self._names)  # an unreadable sample is found now, not in the middle of the dataset
        classes = getattr(dataset, "classes", None)
        if isinstance(classes, Sequence) and not isinstance(classes, str):
            self.classes = tuple(str(name) for name in classes)
        self.identity = _files_identity(self._dataset) or _memory_identity(self._dataset)

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, rows: Indices) -> tuple[list[Any], list[Any]]:
        pairs = [self._pair(row) for row in rows.tolist()]
        return [value for value, _ in pairs], [target for _, target in pairs]

    def _pair(self, row: int) -> tuple[Any, Any]:
        sample = self._dataset[row]
        try:
            return pick(sample, self._names)
        except InputError as error:
            raise InputError(f"row {row}: {error}", row=row) from None


class _Selected(RawExamples):
    def __init__(self, parent: RawExamples, indices: Sequence[int]) -> None:
        if len(indices) == 0:
            raise InputError("the subset is empty: give one with examples")
        self._parent = parent
        self._indices = np.asarray(indices, dtype=np.int64)
        self.classes = parent.classes
        if parent.identity is not None:
            self.identity = digest("subset", parent.identity, self._indices.tobytes().hex())

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, rows: Indices) -> tuple[list[Any], list[Any]]:
        return self._parent.read(self._indices[rows])


class _Joined(RawExamples):
    def __init__(self, parts: Sequence[RawExamples]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self.classes = parts[0].classes if all(part.classes == parts[0].classes for part in parts) else None
        identities = [part.identity for part in parts if part.identity is not None]
        if len(identities) == len(parts):
            self.identity = digest("joined", *identities)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, rows: Indices) -> tuple[list[Any], list[Any]]:
        owners = np.searchsorted(self._ends, rows, side="right")
        values: list[Any] = [None] * len(rows)
        targets: list[Any] = [None] * len(rows)
        for owner in np.unique(owners):
            places = np.flatnonzero(owners == owner)
            start = int(self._ends[owner - 1]) if owner else 0
            read_values, read_targets = self._parts[owner].read(rows[places] - start)
            for place, value, target in zip(places, read_values, read_targets, strict=True):
                values[place], targets[place] = value, target
        return values, targets


@dataclass(frozen=True, slots=True)
class _Unchanged:
    """Stands in for a transform; picklable, and harmless to code that calls it without asking.

    What is named (``transform(image=…)["image"]``, as albumentations has it) comes back under its name.
    """

    def __call__(self, *parts: Any, **named: Any) -> Any:
        if named:
            return named
        return parts[0] if len(parts) == 1 else parts


def untransformed(dataset: Any) -> Any:
    """The same dataset (not a copy of its data) without its ``transform``, ``target_transform`` and ``transforms``."""
    if isinstance(dataset, TensorDataset):
        return dataset
    names = [n for n in ("transform", "target_transform", "transforms") if getattr(dataset, n, None) is not None]
    if not names:
        return dataset
    plain = copy.copy(dataset)
    for name in names:
        setattr(plain, name, _Unchanged())
    return plain


def digest(*parts: str) -> str:
    """A name for what ``parts`` say together; no two lists of parts share one."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode()
        hasher.update(len(raw).to_bytes(8, "little") + raw)
    return hasher.hexdigest()


def _files_identity(dataset: Any) -> str | None:
    """What torchvision's folders of pictures hold: names, sizes and times of their files, and the targets.

    A subclass, or a loader of somebody's own, may read the same files differently tomorrow: those are not known.
    """
    if type(dataset) is not ImageFolder or dataset.loader is not default_loader:
        return None
    parts = []
    for path, target in dataset.samples:
        status = Path(path).stat()
        parts += [str(Path(path).resolve()), str(status.st_size), str(status.st_mtime_ns), str(target)]
    return digest("files", *parts)


def _linked_identity(table: datasets.Dataset, column: str) -> str | None:
    """Names, sizes and times of the files that a column of pictures only names ("" where it holds them all).

    A table's fingerprint stays the same when such a file is written anew. ``None`` where one cannot be looked at.
    """
    cells = table.data.column(column)
    unread = pc.and_(pc.is_null(pc.struct_field(cells, "bytes")), pc.is_valid(pc.struct_field(cells, "path")))
    paths = pc.filter(pc.struct_field(cells, "path"), unread).to_pylist()
    if not paths:
        return ""
    hasher = hashlib.blake2b(str(Path.cwd()).encode(), digest_size=16)  # relative paths begin there
    try:
        for path in paths:
            status = os.stat(path)  # noqa: PTH116  (a Path for each of a million pictures takes longer than this)
            hasher.update(f"\0{path}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    except (OSError, ValueError):
        return None
    return hasher.hexdigest()


def _memory_identity(dataset: Any) -> str | None:
    """What torchvision's datasets in memory hold: their arrays, hashed as a whole, which is quicker than keying."""
    if type(dataset) not in _IN_MEMORY:
        return None
    parts = [type(dataset).__name__]
    for values in (dataset.data, dataset.targets):
        array = np.ascontiguousarray(values)
        parts += [str(array.shape), str(array.dtype), hashlib.blake2b(array.data).hexdigest()]
    return digest("memory", *parts)


def decode_image(cell: Any) -> Image.Image:
    """A picture from a Hugging Face image cell (``{"bytes", "path"}``), or the picture itself."""
    if isinstance(cell, Image.Image):
        return cell
    if cell is None:
        raise InputError("an image cell is empty: filter such rows out first")
    content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, Mapping) else (None, cell)
    try:
        picture = Image.open(BytesIO(content) if content is not None else str(path))
        picture.load()
    except (OSError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise InputError(f"an image cannot be decoded ({path or 'embedded'}): {error}", path=path) from None
    return picture


def _as_slice(rows: Indices) -> slice | None:
    """``rows`` as a slice where they are consecutive: reading a slice of an arrow table copies nothing."""
    if len(rows) and int(rows[-1]) - int(rows[0]) == len(rows) - 1 and bool((np.diff(rows) == 1).all()):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return None
