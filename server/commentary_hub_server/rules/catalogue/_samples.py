"""Examples that an artefact brings along: one picture of many tiles, which says in a text chunk what each shows."""

from __future__ import annotations

import json
import math
import re
import struct
from bisect import bisect_left
from dataclasses import dataclass

from commentary_hub_server.rules.catalogue._reading import Commentary
from commentary_hub_server.rules.catalogue._shelf import Shelf

SAMPLES_PATH = "plots/samples.png"
MAX_SAMPLES = 256
_MAX_HEAD_BYTES = 128 * 1024
_KEYWORD = b"commentary-samples\0"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEY = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Sample:
    """One example: its content key, its weight and label; ``tile`` is its number on the sheet, row by row."""

    key: str
    weight: float
    label: str = ""
    tile: int | None = None


@dataclass(frozen=True, slots=True)
class SampleSheet:
    """Equal square tiles, ``columns`` by ``rows``; ``samples`` from the lowest weight to the highest."""

    path: str
    columns: int
    rows: int
    samples: tuple[Sample, ...]

    def beside(self, threshold: float, count: int) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
        """The samples next below and next above ``threshold``, nearest first."""
        at = bisect_left(self.samples, threshold, key=lambda sample: sample.weight)
        return self.samples[max(0, at - count) : at][::-1], self.samples[at : at + count]


def read_sample_sheet(shelf: Shelf, commentary: Commentary) -> SampleSheet | None:
    """The artefact's sheet, or ``None`` where it has none that can be believed; one read of at most 128 kB.

    The chunk ``commentary-samples`` of ``plots/samples.png`` holds JSON: ``columns``, ``rows`` and, for each tile,
    ``[key, weight, label]``.
    """
    path = commentary.prefix + SAMPLES_PATH
    try:
        head = shelf.read(commentary.repo_id, commentary.revision, path, 0, _MAX_HEAD_BYTES)
        described = json.loads(_chunk(head))
        columns, rows = int(described["columns"]), int(described["rows"])
        samples = tuple(_sample(at, line) for at, line in enumerate(described["samples"][:MAX_SAMPLES]))
    except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if not samples or not 0 < columns <= MAX_SAMPLES or not 0 < rows <= MAX_SAMPLES or len(samples) > columns * rows:
        return None
    return SampleSheet(path, columns, rows, tuple(sorted(samples, key=lambda sample: sample.weight)))


def _sample(at: int, line: list[object]) -> Sample:
    key, weight, label = line
    if not isinstance(key, str) or not _KEY.fullmatch(key) or not isinstance(weight, float | int):
        raise ValueError(key)
    if not math.isfinite(weight):
        raise ValueError(weight)
    return Sample(key, float(weight), str(label)[:100], at)


def _chunk(head: bytes) -> bytes:
    """The text of our chunk, which stands before the picture's data; empty where it is missing."""
    if not head.startswith(_SIGNATURE):
        return b""
    at = len(_SIGNATURE)
    while at + 8 <= len(head):
        length, kind = struct.unpack(">I4s", head[at : at + 8])
        body = head[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            break
        if kind == b"tEXt" and body.startswith(_KEYWORD):
            return body.removeprefix(_KEYWORD)
        at += length + 12
    return b""
