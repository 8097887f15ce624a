"""Folders of this machine: what `datasets` reads, except that folders of pictures are never split by a class's name.

`datasets` tells splits from names anywhere in a folder, so that ``oak/train_1.png`` and a class called ``test`` would
be a split of their own, and what is in none is left out without a word.
"""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

import datasets
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

from commentary_hub.errors import InputError

_PICTURES = frozenset(ImageFolder.EXTENSIONS)
_TABLES = frozenset({
    ".arrow", ".csv", ".geoparquet", ".h5", ".hdf5", ".json", ".jsonl", ".lance", ".ndjson", ".parquet", ".tsv", ".xml",
    ".7z", ".bz2", ".gz", ".lz4", ".tar", ".tgz", ".xz", ".zip", ".zst",
})  # fmt: skip
_SPLITS = {  # the words by which `datasets` knows a split
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_BETWEEN = "[-._ 0-9]"


def load_folder(folder: Path, config: str | None, *, split: str) -> datasets.Dataset:
    """A split of the dataset in ``folder``; pictures in a folder for each class are all in "train".

    Where all top folders are named after splits, each holds the folders of its classes. Raises `InputError` where
    pictures are in no split or in several, and whatever ``datasets.load_dataset`` raises.
    """
    pictures = _pictures(folder)
    files = _splits(pictures) if config in {None, "default"} else None
    if files is None:
        loaded = datasets.load_dataset(str(folder), config, split=split)
    else:
        loaded = datasets.load_dataset(
            "imagefolder", data_dir=str(folder), data_files=files, drop_labels=False, split=split
        )
    if pictures and loaded.info.builder_name == "imagefolder":
        counts = {name: part.num_examples for name, part in loaded.info.splits.items()}
        if sum(counts.values()) != len(pictures):
            found = ", ".join(f"{name} {count:,}" for name, count in counts.items())
            raise InputError(
                f"{folder} holds {len(pictures):,} pictures, its splits another number ({found}): put them all into a "
                "folder for each class, or open the folder with datasets.load_dataset and give one of its splits",
                folder=folder,
            )
    return loaded


def declares_configs(folder: Path) -> bool:
    """Whether a dataset card in ``folder`` says which files make which configuration and split."""
    card = folder / "README.md"
    return card.is_file() and re.search(r"^configs:", card.read_text(errors="replace"), re.MULTILINE) is not None


def _pictures(folder: Path) -> list[tuple[str, ...]]:
    """The pictures in ``folder``, by the parts of their paths; none where something else is, or says, the dataset.

    What tables and archives beside pictures mean (their labels, or that these are only figures), `datasets` knows.
    """
    if declares_configs(folder):
        return []
    found, texts = [], 0
    for place, inner, files in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith((".", "__"))]  # as `datasets` passes over them
        if any(Path(name).suffix.lower() in _TABLES for name in files):
            return []
        above = Path(place).relative_to(folder).parts
        for name in files:
            ending = Path(name).suffix.lower()
            texts += ending == ".txt"
            if ending in _PICTURES and not name.startswith("."):
                found.append((*above, name))
    folders = {parts[0] for parts in found if len(parts) > 1}
    if folders and None not in map(_split_of, folders):
        found = [parts for parts in found if len(parts) > 1]  # beside the splits lies what shows the dataset to people
    return found if len(found) > texts else []


def _splits(pictures: list[tuple[str, ...]]) -> dict[str, list[str]] | None:
    """Split → patterns of its files, where all pictures lie in folders of classes; ``None`` for another layout.

    A pattern for each class, in the order of their names: so torchvision's ImageFolder orders them, and scores that are
    told by position mean the same pictures ("cat/…" is behind "cat-big/…" among paths).
    """
    depths = {len(parts) for parts in pictures}
    tops = {parts[0]: _split_of(parts[0]) for parts in pictures}
    if depths == {2} and None in tops.values():
        return {"train": [f"{glob.escape(top)}/**" for top in sorted(tops)]}
    if depths != {3} or None in tops.values():
        return None
    files: dict[str, list[str]] = {}
    for top, inner in sorted({parts[:2] for parts in pictures}):
        files.setdefault(str(tops[top]), []).append(f"{glob.escape(top)}/{glob.escape(inner)}/**")
    return files


def _split_of(name: str) -> str | None:
    for split, words in _SPLITS.items():
        if re.fullmatch(f"(.*{_BETWEEN})?({'|'.join(words)})({_BETWEEN}.*)?", name):
            return split
    return None
