"""Which files stay at home: what a ``.gitignore`` says of them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import re2
from pathspec import GitIgnoreSpec

from commentary_hub.errors import InputError

IGNORE_NAME = ".gitignore"
MAX_IGNORE_BYTES = 32 << 10
MAX_PATTERNS = 500
_POSIX_CLASS = re.compile(r"\[:\w*:\]")


def ignored(gitignore: str, paths: Iterable[str]) -> set[str]:
    r"""Those of ``paths`` that git would ignore; the last pattern that matches decides, ``!`` takes a file back.

    Patterns are matched by RE2, in time that grows with their length alone: a few stars keep Python's ``re`` busy for
    minutes. Raises `InputError` for more than 32,768 bytes or 500 patterns, for classes such as ``[[:upper:]]`` and for
    what is no pattern: to leave one out would publish what it hides.

    >>> sorted(ignored("*.log\n!kept.log\n/build/", ["a/b.log", "kept.log", "build/x", "a/build/x"]))
    ['a/b.log', 'build/x']
    """
    lines = [line for line in gitignore.removeprefix("\ufeff").split("\n") if line.strip() and not line.startswith("#")]
    if not lines:
        return set()
    if len(gitignore.encode()) > MAX_IGNORE_BYTES or len(lines) > MAX_PATTERNS:
        raise InputError(
            f"a .gitignore has at most {MAX_IGNORE_BYTES:,} bytes and {MAX_PATTERNS} patterns: write a shorter one"
        )
    for line in lines:
        if _POSIX_CLASS.search(line):  # pathspec ends the brackets inside of it, and so would match other files
            raise InputError(
                f"the .gitignore's pattern {line.strip()!r} has a class of characters that is not read here: write the "
                "characters out, as in [A-Z]"
            )
    try:
        spec = GitIgnoreSpec.from_lines(lines, backend="re2")
    except (ValueError, re.error, re2.error) as error:
        raise InputError(f"the .gitignore holds what is no pattern, or too many stars: {error}") from error
    return {path for path in paths if spec.match_file(path)}
