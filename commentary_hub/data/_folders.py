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
_TABLES = frozenset({".parquet", ".csv", ".json", ".jsonl", ".arrow"})
_METADATA = frozenset({"metadata.csv", "metadata.jsonl", "metadata.parquet"})
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
    """The pictures in ``folder``, by the parts of their paths; none where something else says what the dataset is."""
    if declares_configs(folder):
        return []
    found, tables = [], 0
    for place, inner, files in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith((".", "__"))]  # as `datasets` passes over them
        if not _METADATA.isdisjoint(files):
            return []
        above = Path(place).relative_to(folder).parts
        for name in files:
            ending = Path(name).suffix.lower()
            tables += ending in _TABLES
            if ending in _PICTURES and not name.startswith("."):
                found.append((*above, name))
    return found if len(found) > tables else []


def _splits(pictures: list[tuple[str, ...]]) -> dict[str, list[str]] | None:
    """Split → patterns of its files, where all pictures lie in folders of classes; ``None`` for another layout."""
    depths = {len(parts) for parts in pictures}
    tops = {parts[0]: _split_of(parts[0]) for parts in pictures}
    if depths == {2} and None in tops.values():
        return {"train": ["**"]}
    if depths != {3} or None in tops.values():
        return None
    files: dict[str, list[str]] = {}
    for top, split in sorted(tops.items()):
        files.setdefault(str(split), []).append(f"{glob.escape(top)}/**")
    return files


def _split_of(name: str) -> str | None:
    for split, words in _SPLITS.items():
        if re.fullmatch(f"(.*{_BETWEEN})?({'|'.join(words)})({_BETWEEN}.*)?", name):
            return split
    return None
