"""What changed between two revisions: files by digest, small texts line by line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Literal

from commentary_hub_server.rules.catalogue._shelf import Shelf

MAX_TEXT_BYTES = 64 * 1024
MAX_LINES = 400
MAX_CHARACTERS = 50_000  # of all lines together: a page has to carry them
_MAX_LINE = 400
_MAX_TEXTS, _MAX_TEXT_LINES = 10, 2000  # that are compared line by line
_MAX_PAIRS = _MAX_TEXT_LINES**2  # of a line before and one after, of all texts together: the time grows with them
MAX_FILES = 200
_TEXTS = (".json", ".md", ".toml", ".txt", ".csv", ".yaml", ".yml")

Change = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file: sizes before and after in bytes (0 where it is not there); a unified difference for small texts."""

    path: str
    change: Change
    before_bytes: int
    after_bytes: int
    lines: tuple[str, ...] = ()


def difference(shelf: Shelf, repo_id: str, before: str, after: str) -> list[FileChange]:
    """Changed files from one commit to another, at most 200; texts up to 64 kB with at most 400 lines.

    Of all files together at most 50,000 characters of lines are given, of a line the first 400, and lines of the
    first 10 texts, each to its line 2,000: of one that long on either side, or of as many as cost no more than it.
    """
    left, texts, pairs = MAX_CHARACTERS, 0, _MAX_PAIRS
    changes = []
    for was, now in shelf.changes(repo_id, before, after, limit=MAX_FILES):
        one = now or was
        assert one is not None
        path = one.path
        change: Change = "added" if was is None else "removed" if now is None else "changed"
        sizes = (was.size_bytes if was else 0, now.size_bytes if now else 0)
        lines: tuple[str, ...] = ()
        if path.lower().endswith(_TEXTS) and max(sizes) <= MAX_TEXT_BYTES and texts < _MAX_TEXTS:
            texts += 1
            old_lines = _lines(shelf, repo_id, before, path) if was else ()
            new_lines = _lines(shelf, repo_id, after, path) if now else ()
            if len(old_lines) * len(new_lines) <= pairs:
                pairs -= len(old_lines) * len(new_lines)
                lines = _within(left, _changed(old_lines, new_lines))
                left -= sum(map(len, lines))
        changes.append(FileChange(path, change, *sizes, lines))
    return changes


@lru_cache(maxsize=32)  # whoever looks again, or at the same address, waits no more
def _changed(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    """The beginning of a unified difference, each line's beginning."""
    changed = difflib.unified_diff(old, new, lineterm="", n=2)
    return tuple(line[:_MAX_LINE] for line in islice(changed, 2, 2 + MAX_LINES))


def _within(characters: int, lines: Iterable[str]) -> tuple[str, ...]:
    """As many of the lines as fit."""
    kept: list[str] = []
    for line in lines:
        characters -= len(line)
        if characters < 0:
            break
        kept.append(line)
    return tuple(kept)


def _lines(shelf: Shelf, repo_id: str, revision: str, path: str) -> tuple[str, ...]:
    text = shelf.read(repo_id, revision, path, 0, MAX_TEXT_BYTES).decode(errors="replace")
    return tuple(text.splitlines()[:_MAX_TEXT_LINES])
