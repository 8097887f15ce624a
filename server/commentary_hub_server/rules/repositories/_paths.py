"""Names and paths that a stranger may choose, and those that nobody may."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import accumulate

from commentary_hub.errors import InputError

MAX_PATH = 1024
MAX_PARTS = 32
# The owner of repositories whose public id has one segment: an organisation that an administrator makes.
SHORT = "_"
# What may follow a repository's id in an address. No repository has such a name, so that ids may have one segment.
VERBS = frozenset(
    {"auth-check", "branch", "commit", "commits", "compare", "croissant", "discussions", "lfs-files", "like", "likers",
     "paths-info", "preupload", "raw", "refs", "resolve", "revision", "settings", "super-squash", "tag", "tree",
     "user-access-request", "xet-read-token", "xet-write-token"}
)  # fmt: skip
_REPOSITORY = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REF = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._/-]{0,198}[A-Za-z0-9_])?")
_UNSEEN = r"\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"  # they turn text around, or hide in it
_FORBIDDEN = re.compile(rf"[\x00-\x1f\x7f-\x9f\\:*?\"<>|\ue000\ud800-\udfff{_UNSEEN}]")


def check_path(path: str) -> str:
    """A file's path inside a repository, as it is; raises `InputError` for what could mean another place anywhere.

    Refused: more than 32 parts; empty, absolute and relative ones; control characters, those that make a name look
    like another one, and those that some system takes for separators, drives or wildcards; ``.git`` in any case; names
    not in Unicode's composed form (two spellings of one name).

    >>> check_path("plots/weights.png")
    'plots/weights.png'
    """
    parts = path.split("/")
    wrong = (
        not path
        or _FORBIDDEN.search(path)
        or len(path.encode()) > MAX_PATH
        or len(parts) > MAX_PARTS
        or any(part in {"", ".", ".."} or part.lower() == ".git" or part != part.strip(" ") for part in parts)
        or any(part.endswith(".") for part in parts)
        or unicodedata.normalize("NFC", path) != path
    )
    if wrong:
        raise InputError(f"{path[:200]!r} cannot be a path in a repository: use plain relative paths", path=path[:200])
    return path


def folders_of(path: str) -> Iterator[str]:
    """The folders above a file.

    >>> list(folders_of("a/b/c.txt"))
    ['a', 'a/b']
    """
    return accumulate(path.split("/")[:-1], "{}/{}".format)


def check_repository_name(name: str) -> str:
    """The second part of ``owner/name``; raises `InputError`."""
    plain = _REPOSITORY.fullmatch(name) and not name.lower().endswith((".git", ".ipynb"))
    if not plain or ".." in name or "--" in name or name.lower() in VERBS:
        raise InputError(f"{name[:200]!r} cannot be a repository's name: use letters, digits, '.', '_' and '-'")
    return name


def check_ref(name: str) -> str:
    """A branch's or a tag's name; raises `InputError`."""
    parts = name.split("/")
    if (
        not _REF.fullmatch(name)
        or ".." in name
        or any(p == "" or p.startswith(".") or p.endswith(".lock") for p in parts)
    ):
        raise InputError(f"{name[:200]!r} cannot be the name of a branch or tag")
    if re.fullmatch(r"[0-9a-f]{40}", name):
        raise InputError(f"{name!r} looks like a commit: choose another name")
    return name
