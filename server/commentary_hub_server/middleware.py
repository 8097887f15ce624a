"""Around every request: an id, a log line, metrics, a rate limit, a bound for its body."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
import threading
import time
import traceback
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import structlog
from fastapi import HTTPException
from fastapi.concurrency import run_in_threadpool
from prometheus_client import Counter, Histogram

from commentary_hub.errors import HubAccessDenied

Message = MutableMapping[str, Any]
App = Callable[[Message, Any, Any], Awaitable[None]]
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_SIGNED = re.compile(r"/(lfs(?:/put|/part|/complete|/verify)?|cas/[^/]+/v1/xorb-bytes)/[^/]+$")
# How many bytes a body may have, by the first pattern that its address matches: from a stranger, and from a user.
# Where the two are the same, the route asks who sends it before it reads; None: it also counts.
_BODIES: tuple[tuple[re.Pattern[str], int | None, int | None], ...] = (
    (re.compile(r"/lfs/(put|part)/|/cas/[^/]+/v[12]/"), None, None),
    (re.compile(r"/api/(datasets|models)/[^/]+/[^/]+/commit/"), 256 << 20, 256 << 20),
    # The framework parses these before it asks a route. What strangers need fits: a batch of 1,000 objects.
    (re.compile(r"/api/|/lfs/|.*\.git/info/lfs/"), 256 << 10, 8 << 20),
    (re.compile(r""), 64 << 10, 64 << 10),  # forms of pages
)
_WINDOW_S = 60
_CLIENTS = 10_000
_log = structlog.get_logger("commentary_hub.server")


def prepare_logs(*, as_json: bool) -> None:
    """One line for each event on standard error, for people or as JSON."""
    render: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[structlog.processors.TimeStamper(fmt="iso"), structlog.processors.add_log_level, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )


class Observed:
    """Gives every reply an ``x-request-id``, writes one log line, counts, and answers 429 past the limit.

    Pure ASGI, so that streamed bodies pass untouched. The limit is per worker and client: the user whom a route found
    behind this Authorization header before (``request.state.caller``), else the address. So neither an invented token
    nor many of one's own help anybody.
    """

    def __init__(self, app: App, *, metrics: tuple[Counter, Histogram], rate_limit: int = 0) -> None:
        self._app, self._limit = app, rate_limit
        self._requests, self._seconds = metrics
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._callers: OrderedDict[bytes, str] = OrderedDict()
        self._lock = threading.Lock()

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        asked = headers.get(b"x-request-id", b"")
        number = asked if _ID.fullmatch(asked) else uuid.uuid4().hex.encode()
        extra = [(b"x-request-id", number)]
        began, status, started = time.perf_counter(), 500, False
        mark = hashlib.sha256(headers.get(b"authorization", b"")).digest()
        left, reset = self._count(self._callers.get(mark) or str((scope.get("client") or ("",))[0]))
        state = scope.setdefault("state", {})
        if self._limit:
            extra += [
                (b"ratelimit", f'"requests";r={max(0, left)};t={reset}'.encode()),
                (b"ratelimit-policy", f'"requests";q={self._limit};w={_WINDOW_S}'.encode()),
            ]

        async def answer(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                started = True
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *extra]
                self._seconds.labels(scope["method"]).observe(time.perf_counter() - began)
            await send(message)

        try:
            if left < 0:
                wait = (b"retry-after", str(reset).encode())
                await _reply(answer, 429, "too many requests: wait, then try again", wait)
            else:
                await self._app(scope, receive, answer)
        except Exception:
            # The id is what a user can tell an administrator, who finds the rest in the log.
            trace = traceback.format_exc()
            _log.error("failed", id=number.decode(), method=scope["method"], path=_shown(scope["path"]), trace=trace)
            if started:
                raise
            text = "the hub failed: try again, and tell its administrator this reply's x-request-id"
            await _reply(answer, 500, text)
        finally:
            self._remember(mark, state.get("caller"), refused=status == 401)
            self._requests.labels(scope["method"], str(status)).inc()
            _log.info(
                "request", id=number.decode(), method=scope["method"], path=_shown(scope["path"]), status=status,
                ms=round((time.perf_counter() - began) * 1000, 1),
            )  # fmt: skip

    def _count(self, key: str) -> tuple[int, int]:
        """(requests left, seconds until the window ends), with this one."""
        if not self._limit:
            return 1, 0
        now = time.monotonic()
        with self._lock:
            start, count = self._windows.pop(key, (now, 0))
            if now - start >= _WINDOW_S:
                start, count = now, 0
            self._windows[key] = (start, count + 1)
            while len(self._windows) > _CLIENTS:
                self._windows.popitem(last=False)
        return self._limit - count - 1, max(1, round(_WINDOW_S - (now - start)))

    def _remember(self, mark: bytes, caller: str | None, *, refused: bool) -> None:
        """Know a header again by the user whom it named; a refused one is nobody's."""
        with self._lock:
            known = self._callers.pop(mark, None)
            if caller is not None or (known is not None and not refused):
                self._callers[mark] = known or f"user {caller}"
            while len(self._callers) > _CLIENTS:
                self._callers.popitem(last=False)
        if known is None and caller is not None:
            self._count(f"user {caller}")


class Bounded:
    """Refuses a body that is longer than its address may have: by its announced length, or while it arrives.

    ``knows``: Authorization header → whether a user sends it; raises `HubAccessDenied` for a wrong token. It is asked
    for bodies alone that are longer than a stranger's may be, before more of them is read.
    """

    def __init__(self, app: App, *, knows: Callable[[str], bool]) -> None:
        self._app, self._knows = app, knows

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Handle one connection."""
        path = scope.get("path", "")
        few, limit = next((few, many) for pattern, few, many in _BODIES if pattern.match(path))
        if scope["type"] != "http" or few is None or limit is None:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        count, free = 0, few

        async def counted() -> Message:
            nonlocal count, free
            message: Message = await receive()
            count += len(message.get("body", b""))
            if count > free:
                await self._admit(headers, count, few, limit)
                free = limit
            return message

        announced = headers.get(b"content-length", b"0")
        length = int(announced[:20]) if announced.isdigit() else 0
        if length > few:
            try:
                await self._admit(headers, length, few, limit)
            except HTTPException as error:
                await _reply(send, error.status_code, error.detail, (b"connection", b"close"))
                return
            free = limit
        await self._app(scope, counted, send)

    async def _admit(self, headers: Mapping[bytes, bytes], length: int, few: int, limit: int) -> None:
        """Refuse more than ``few`` bytes of a stranger, and more than ``limit`` of anybody."""
        close = {"Connection": "close"}
        if length > limit:
            raise HTTPException(413, f"at most {limit:,} bytes are taken here", close)
        if few < limit:
            try:
                known = await run_in_threadpool(self._knows, headers.get(b"authorization", b"").decode("latin-1"))
            except HubAccessDenied as error:
                raise HTTPException(401, error.message, close) from error
            if not known:
                raise HTTPException(401, f"Log in first: without a token at most {few:,} bytes are taken here", close)


def _shown(path: str) -> str:
    """A path as logs may hold it: a signed link is a key for as long as it is valid, and terminals obey some bytes."""
    return _SIGNED.sub(r"/\1/(signed)", path).encode("unicode_escape").decode()


async def _reply(send: Any, status: int, text: str, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", b"application/json"), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"error": text}).encode()})
