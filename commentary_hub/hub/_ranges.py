"""Many ranges of bytes of one file: how they are asked for together, and what an answer to several of them holds."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

Span = tuple[int, int]
"""Start and stop (exclusive) of some bytes of a file."""
Piece = tuple[int, bytes]
"""Bytes of a file, and where in it they start."""

_RANGES = 100
"""In one request: some servers answer more of them with the whole file."""
_GROUP_BYTES = 1 << 26
"""In one request: what would have to be asked for again where a connection breaks."""
_BOUNDARY = re.compile(r'multipart/byteranges\s*;.*?boundary="?([^";]+)"?', re.IGNORECASE)
_CONTENT_RANGE = re.compile(rb"^content-range:\s*bytes\s+(\d{1,18})-(\d{1,18})/", re.IGNORECASE | re.MULTILINE)
_PART_HEAD_BYTES = 1 << 10


def joined(spans: Sequence[Span], gap: int) -> list[Span]:
    """Fewer ascending spans that hold these: those less than ``gap`` bytes apart become one.

    >>> joined([(0, 4), (6, 8), (20, 24)], 3)
    [(0, 8), (20, 24)]
    """
    edges = [place for place, (left, right) in enumerate(pairwise(spans), 1) if right[0] - left[1] > gap]
    return [(spans[first][0], spans[last - 1][1]) for first, last in pairwise([0, *edges, len(spans)]) if spans]


def grouped(spans: Sequence[Span]) -> list[list[Span]]:
    """Spans by the request that asks for them; a long one is cut and asked for by several.

    >>> [len(group) for group in grouped([(n, n + 1) for n in range(0, 500, 2)])]
    [100, 100, 50]
    """
    groups: list[list[Span]] = []
    held = 0
    for begin, end in spans:
        for start in range(begin, end, _GROUP_BYTES):
            stop = min(start + _GROUP_BYTES, end)
            if not groups or len(groups[-1]) == _RANGES or held + stop - start > _GROUP_BYTES:
                groups.append([])
                held = 0
            groups[-1].append((start, stop))
            held += stop - start
    return groups


def most_bytes(group: Sequence[Span]) -> int:
    """The most that an honest answer to a request for these spans has."""
    return sum(stop - start for start, stop in group) + _PART_HEAD_BYTES * (len(group) + 1)


def parts(content_type: str, content: bytes) -> list[Piece] | None:
    """The pieces in a ``multipart/byteranges`` answer (RFC 9110, 14.6), ascending; ``None`` where it is none.

    How long a part is says its own head, so that no boundary is looked for in the bytes themselves.
    """
    boundary = _BOUNDARY.match(content_type)
    if boundary is None:
        return None
    mark, found, place = b"--" + boundary[1].encode("latin-1"), [], 0
    while (place := content.find(mark, place)) >= 0:
        head_end = content.find(b"\r\n\r\n", place, place + _PART_HEAD_BYTES)
        said = _CONTENT_RANGE.search(content, place, head_end) if head_end >= 0 else None
        if said is None:
            break
        start, place = int(said[1]), head_end + 4
        length = int(said[2]) + 1 - start
        found.append((start, content[place : place + length]))
        place += max(length, 0)
    return sorted(found)


def cut(spans: Sequence[Span], pieces: Sequence[Piece]) -> list[bytes] | None:
    """The bytes of each span, out of ascending pieces that may meet inside it; ``None`` where some are missing.

    >>> cut([(1, 3), (3, 6)], [(0, b"abcd"), (4, b"efgh")])
    [b'bc', b'def']
    """
    starts = [start for start, _ in pieces]
    found = []
    for begin, stop in spans:
        at, start, taken = bisect_right(starts, begin) - 1, begin, []
        while start < stop and 0 <= at < len(pieces) and starts[at] <= start < starts[at] + len(pieces[at][1]):
            taken.append(pieces[at][1][start - starts[at] : stop - starts[at]])
            start += len(taken[-1])
            at += 1
        if start < stop:
            return None
        found.append(taken[0] if len(taken) == 1 else b"".join(taken))
    return found
