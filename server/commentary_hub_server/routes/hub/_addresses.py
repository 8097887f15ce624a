"""Addresses as they were sent: an encoded slash belongs to its segment, and some repositories have one segment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from commentary_hub_server.rules.repositories import SHORT, VERBS

SLASH = "\ue000"  # stands for %2F inside one segment of an address; no path or name may hold it
Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]
_KINDS = {"datasets", "models"}
_LFS = ".git"


def plain(segment: str) -> str:
    """A segment of an address with its encoded slashes restored."""
    return segment.replace(SLASH, "/")


def raw_path_middleware(app: App) -> App:
    """Route on the raw path: split first, then decode once; a short id gets the owner that it stands for."""

    async def routed(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            raw = scope.get("raw_path") or scope["path"].encode()
            path = raw.split(b"?")[0].decode("latin-1")
            if "%" in path:
                path = "/".join(unquote(part).replace("/", SLASH) for part in path.replace(SLASH, "").split("/"))
            scope = {**scope, "path": _with_owner(path)}
        await app(scope, receive, send)

    return routed


def _with_owner(path: str) -> str:
    """``/api/datasets/mnist/tree/main`` → ``/api/datasets/_/mnist/tree/main``; two segments stay as they are.

    No repository may be called like a verb, so that the second segment says which of the two an address is.
    """
    if not path.startswith("/"):
        return path  # OPTIONS *
    parts = path.split("/")
    at = 3 if parts[1] == "api" and len(parts) > 3 and parts[2] in _KINDS else 2 if parts[1] == "datasets" else 1
    if len(parts) <= at or not parts[at]:
        return path
    following = parts[at + 1] if len(parts) > at + 1 else None
    short = (
        following in VERBS or following is None
        if at == 3
        else following in {"resolve", "raw"} or (parts[at].endswith(_LFS) and following == "info")
    )
    return "/".join([*parts[:at], SHORT, *parts[at:]]) if short else path
