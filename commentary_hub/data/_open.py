"""Opening a dataset for learning: by name, by path, or as an object that somebody already has."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from commentary_hub.data._examples import Examples
from commentary_hub.data._folders import declares_configs, load_folder
from commentary_hub.data._keys import Form, canonical_picture, content_form, content_keys, salt_check
from commentary_hub.data._raw import RawExamples, raw_examples
from commentary_hub.data._targets import called, class_indices, missing_rows, renumbered
from commentary_hub.data._text import tokenise
from commentary_hub.errors import InputError, ShapeError
from commentary_hub.manifest import DatasetIdentity

DIGITS = "sklearn:digits"
LOCAL_COPIES = "COMMENTARY_HUB_DATASETS"
"""The environment variable with folders of local copies, see `open_examples`."""
_DIGITS_MAXIMUM = 16.0
_FILE_FORMATS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json", ".arrow": "arrow"}

Spec = Any
"""A name (``sklearn:digits`` or a Hub id), a path (file or folder), or a dataset object."""


def open_examples(
    dataset: Spec,
    *,
    split: str = "train",
    config: str | None = None,
    revision: str | None = None,
    limit: int | None = None,
    inputs: str | None = None,
    targets: str | None = None,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] | None = None,
    known_as: str | None = None,
    salt: str | bytes | None = None,
    progress: Callable[[int], None] | None = None,
) -> Examples:
    """Open a labelled dataset and hold it in memory.

    ``dataset`` is one of

    - ``"sklearn:digits"``: 1,797 handwritten digits, embedded; keyed as scikit-learn's rows ``data[i]`` (float64 [64]),
      seen as [1, 8, 8] / 16; it has no splits, so ``split`` is ignored;
    - a Hub id such as ``"ylecun/mnist"``, with ``config``, ``revision``, ``split``: looked for in the folders that the
      environment variable ``COMMENTARY_HUB_DATASETS`` names (separated as in PATH), which hold copies in the Hub's
      layout, ``<owner>/<name>/…parquet``, and then on the Hub. A copy has no revisions: one that is asked for by
      ``revision`` comes from the Hub;
    - a path to a parquet, CSV, JSON or arrow file (whose only split is "train"), to a folder with pictures in a folder
      for each class (also "train", or these in folders named after splits), or to another one that
      ``datasets.load_dataset`` reads, such as parquet in the Hub's layout;
    - a Hugging Face ``Dataset``, a torchvision dataset, or any map-style dataset of (example, target): transforms are
      seen past. A loader is not: torchvision's ``ImageFolder`` turns grey and transparent pictures into RGB, which are
      other examples than those of the folder's path.

    The student sees pictures as float32 [C, H, W] / 255 in [0, 1] (all RGB if their modes differ), resized to ``size``
    (height, width) where given; numeric rows as float32, unscaled; text as hashed tokens [64] int64 (`tokenise`).
    Keys are taken from the raw examples, before any of this. Class names given as strings become indices in sorted
    order; ``classes`` gives the names in another order, or such as this split does not have (those of the training
    split: a split alone may lack a class, and numbers would shift). ``limit`` keeps the first examples; ``inputs`` and
    ``targets`` name columns where they cannot be told; ``known_as`` is the Hub id under which others know a local copy;
    ``progress`` is called with the number of examples just read.

    Raises `InputError` (unreadable, empty, no such split or configuration, ambiguous columns, missing values),
    `LabelError` (targets that are no classes) or `ShapeError` (pictures of different sizes: give ``size``).

    >>> digits = open_examples("sklearn:digits")
    >>> len(digits), tuple(digits.inputs.shape[1:]), digits.form
    (1797, (1, 8, 8), 'numeric')
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}: keep at least one example, or leave it out")
    if size is not None:
        size = _checked_size(size)
    raw, identity = open_raw(
        dataset, split=split, config=config, revision=revision, inputs=inputs, targets=targets, known_as=known_as
    )
    names = None if classes is None else tuple(classes)
    examples = _in_memory(raw, identity, limit=limit, size=size, classes=names, salt=salt, progress=progress)
    if isinstance(dataset, str) and dataset == DIGITS:
        return replace(examples, inputs=(examples.inputs / _DIGITS_MAXIMUM).reshape(-1, 1, 8, 8))
    return examples


def open_raw(
    dataset: Spec,
    *,
    split: str = "train",
    config: str | None = None,
    revision: str | None = None,
    inputs: str | None = None,
    targets: str | None = None,
    known_as: str | None = None,
) -> tuple[RawExamples, DatasetIdentity]:
    """The raw examples of what `open_examples` opens, and its identity, with nothing held in memory."""
    if isinstance(dataset, str) and dataset.startswith("sklearn:"):
        return _digits(dataset), DatasetIdentity(id=DIGITS)
    identity = _identity(dataset, split=split, config=config, revision=revision, known_as=known_as)
    if isinstance(dataset, (str, Path)):
        dataset = _load(dataset, split=split, config=config, revision=revision)
    return raw_examples(dataset, inputs=inputs, targets=targets), identity


def _checked_size(size: Any) -> tuple[int, int]:
    sides = tuple(size) if isinstance(size, Sequence) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise InputError(f"size is {size!r}: give (height, width), two whole numbers from 1, as in size=(32, 32)")
    return sides


def _digits(name: str) -> RawExamples:
    if name != DIGITS:
        raise InputError(f"{name!r} is not known: the embedded dataset is {DIGITS!r}", dataset=name)
    from sklearn.datasets import load_digits  # noqa: PLC0415  (a second to import, needed here only)

    digits = load_digits()
    raw = raw_examples(list(zip(digits.data, digits.target.tolist(), strict=True)))
    raw.classes = tuple(str(digit) for digit in range(10))
    return raw


def _identity(
    dataset: Spec, *, split: str, config: str | None, revision: str | None, known_as: str | None
) -> DatasetIdentity:
    if isinstance(dataset, (str, Path)):
        local = Path(dataset).exists()
        name = Path(dataset).resolve().stem if local else str(dataset)
        return DatasetIdentity(id=known_as or name, revision=revision, config=config, split=split)
    if isinstance(dataset, datasets.Dataset):
        info = dataset.info
        name = known_as or str(info.dataset_name or "unnamed")
        return DatasetIdentity(
            id=name, config=config, revision=revision, split=None if dataset.split is None else str(dataset.split)
        )
    return DatasetIdentity(id=known_as or type(dataset).__name__, config=config, revision=revision)


def _load(dataset: str | Path, *, split: str, config: str | None, revision: str | None) -> datasets.Dataset:
    path = Path(dataset)
    try:
        if path.is_file():
            kind = _FILE_FORMATS.get(path.suffix)
            if kind is None:
                raise InputError(f"{path} is none of {', '.join(_FILE_FORMATS)}: convert it, or open it yourself")
            return datasets.load_dataset(kind, data_files=str(path), split=split)
        if (path / "state.json").is_file():
            return _saved(path, split)
        if path.is_dir():
            return load_folder(path, config, split=split)
        copy = None if revision is not None else _local_copy(str(dataset), config)
        if copy is not None:
            return load_folder(*copy, split=split)
        return datasets.load_dataset(str(dataset), config, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"dataset {str(dataset)!r} cannot be opened ({reason}): give a Hub id, a file or a folder that exists, "
            f"and a split that it has (asked for: {split!r})",
            dataset=str(dataset),
        ) from error


def _saved(folder: Path, split: str) -> datasets.Dataset:
    """What ``Dataset.save_to_disk`` wrote: one split, or a slice of one.

    Where it has no name it is "train", or what its folder is called.
    """
    saved = datasets.load_from_disk(str(folder))
    name = "train" if saved.split is None else str(saved.split)
    if split not in {name, name.partition("[")[0], *([folder.name] if saved.split is None else [])}:
        raise InputError(f"{folder} holds the split {name!r} alone: ask for that (asked for: {split!r})", split=split)
    return saved


def _local_copy(name: str, config: str | None) -> tuple[Path, str | None] | None:
    """The first copy of the dataset ``owner/name``: its folder with this configuration, or all of it and which to take.

    Raises `InputError` where a copy has other configurations.
    """
    parts = name.split("/")
    if len(parts) != 2 or any(part in {"", ".", ".."} for part in parts):
        return None
    for root in filter(None, os.environ.get(LOCAL_COPIES, "").split(os.pathsep)):
        copy = Path(root) / name
        if copy.is_dir():
            if config is None or config == "default" or declares_configs(copy):
                return copy, config
            if not (copy / config).is_dir():
                there = ", ".join(sorted(path.name for path in copy.iterdir() if path.is_dir())) or "none of its own"
                raise InputError(f"the copy {copy} has no configuration {config!r}: it has {there}", config=config)
            return copy / config, None
    return None


def _in_memory(
    raw: RawExamples,
    identity: DatasetIdentity,
    *,
    limit: int | None,
    size: tuple[int, int] | None,
    classes: tuple[str, ...] | None,
    salt: str | bytes | None,
    progress: Callable[[int], None] | None,
) -> Examples:
    count = len(raw) if limit is None else min(limit, len(raw))
    form: Form | None = None
    keys, inputs, targets = [], [], []
    for values, labels in raw.chunks(np.arange(count)):
        if any(value is None for value in values):
            everything = (value for part, _ in raw.chunks(np.arange(count)) for value in part)
            raise missing_rows([value is None for value in everything], called("value", raw.names[:1]))
        form = form or content_form(values[0])
        keys.append(content_keys(values, salt=salt))
        inputs.append(_picture_batch(values, size) if form == "image" else values)
        targets.extend(labels)
        if progress is not None:
            progress(len(values))
    assert form is not None
    indices, classes = renumbered(*class_indices(targets, raw.classes), classes)
    seen = _join(inputs, form)
    if form == "numeric":
        _check_finite(seen, raw.names)
    return Examples.of(
        seen,
        indices,
        keys=np.concatenate(keys),
        classes=classes,
        identity=identity,
        form=form,
        salt_check=None if salt is None else salt_check(salt),
    )


def _check_finite(inputs: Tensor, names: Sequence[str]) -> None:
    """Raise `InputError` for rows of numbers [N, ...] of which one is missing, in the columns called ``names``."""
    finite = inputs.reshape(len(inputs), -1).isfinite()
    lacking = ~finite.all(dim=1)
    if bool(lacking.any()):
        place = int(finite[lacking][0].int().argmin())
        raise missing_rows(lacking.tolist(), called("finite value", names[place:] if len(names) > 1 else names))


def _picture_batch(values: list[Any], size: tuple[int, int] | None) -> list[Tensor]:
    """Each distinct shape stays apart here; whether they agree is known only when all have been read."""
    pictures = []
    for value in values:
        if isinstance(value, Tensor):
            array = value.numpy() if value.ndim == 3 else value.numpy()[None]
            array = np.moveaxis(array, 0, 2)
        elif isinstance(value, Image.Image):
            upright = canonical_picture(value)
            array = np.asarray(upright if upright.mode in {"L", "RGB"} else upright.convert("RGB"))
        else:
            array = value
        if size is not None and array.shape[:2] != size:
            array = np.asarray(Image.fromarray(array.squeeze()).resize((size[1], size[0]), Image.Resampling.BILINEAR))
        array = array[:, :, None] if array.ndim == 2 else array
        pictures.append(torch.from_numpy(np.array(np.moveaxis(array, 2, 0))))
    shapes = {tuple(picture.shape) for picture in pictures}
    return [torch.stack(pictures)] if len(shapes) == 1 else pictures


def _join(parts: list[Any], form: Form) -> Tensor:
    if form == "text":
        return tokenise(text for part in parts for text in part)
    if form == "numeric":
        rows = [torch.as_tensor(np.asarray(row)) for part in parts for row in part]
        _same_shape({tuple(row.shape) for row in rows}, "numeric rows", "pad them to one length")
        return torch.stack(rows).float()
    tensors = [tensor if tensor.dim() == 4 else tensor[None] for part in parts for tensor in part]
    if len({tensor.shape[1] for tensor in tensors}) > 1:
        tensors = [tensor.expand(-1, 3, -1, -1) if tensor.shape[1] == 1 else tensor for tensor in tensors]
    _same_shape({tuple(tensor.shape[1:]) for tensor in tensors}, "pictures", "give one size for all (size=(H, W))")
    pictures = torch.empty((sum(len(tensor) for tensor in tensors), *tensors[0].shape[1:]))
    torch.cat(tensors, out=(joined := torch.empty_like(pictures, dtype=torch.uint8)))
    return pictures.copy_(joined).div_(255.0)


def _same_shape(shapes: set[tuple[int, ...]], what: str, advice: str) -> None:
    if len(shapes) > 1:
        some = ", ".join(str(list(shape)) for shape in sorted(shapes)[:3])
        raise ShapeError(f"the {what} have {len(shapes)} different shapes ({some} …): {advice}", shapes=shapes)
