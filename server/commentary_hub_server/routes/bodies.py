"""Bodies on their way in: given up where they stall; those that are needed whole wait on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from commentary_hub_server.rules.uploads import hand_on

IDLE_S = 60  # what nginx grants too: who lives is not silent for so long, and who stalls holds a file open for ever
BODY_S = 1800  # for all of a body that is needed whole
_MEMORY_BYTES = 1 << 20  # about so much of each such body; a larger one is on the disk, however many senders are slow
_CLOSE = {"Connection": "close"}  # the rest of the body is not even read


class Awaited:
    """Answers 408 where no byte of a body comes for `IDLE_S`, whichever route reads it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):  # while these stream, they wait for the end
            await self._app(scope, receive, send)
            return
        waiting = _Waiting(receive)
        try:
            await self._app(scope, waiting.receive, send)
        finally:
            waiting.end()


class _Waiting:
    """Waits for messages, each at most `IDLE_S`, by one timer: `asyncio.timeout` around each would be 5 % of an upload.

    As there, the task that waits is cancelled, and what it sees is not the cancellation.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive, self._loop = receive, asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None  # who waits, while somebody does
        self._since, self._late = 0.0, False
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(IDLE_S, self._look)

    async def receive(self) -> Message:
        """The next message."""
        if self._timer is None:  # all has arrived: what comes now is that the client has left, whenever it does
            return await self._receive()
        self._task, self._since = asyncio.current_task(), self._loop.time()
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if not self._late or self._task is None or self._task.uncancel():
                raise
            raise HTTPException(408, f"no byte came for {IDLE_S} seconds: send it again", _CLOSE) from None
        finally:
            self._task = None
        if not message.get("more_body"):
            self.end()
        return message

    def end(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _look(self) -> None:
        left = IDLE_S if self._task is None else self._since + IDLE_S - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        elif self._task is not None:
            self._late = True
            self._task.cancel()


@asynccontextmanager
async def spooled(stream: AsyncIterator[bytes], folder: Path | None) -> AsyncIterator[tuple[IO[bytes], int]]:
    """(a body that arrived whole, at its beginning; its size in bytes). A large one lies in ``folder``, unnamed."""
    with SpooledTemporaryFile(2 * _MEMORY_BYTES, dir=None if folder is None else str(folder)) as body:
        try:
            async with asyncio.timeout(BODY_S):
                async for piece in stream:
                    body.write(piece)
                    if body.tell() > _MEMORY_BYTES:  # what follows may reach the disk, and is written from a thread
                        await hand_on(stream, body.writelines)
        except TimeoutError as error:
            raise HTTPException(408, f"it has to arrive within {BODY_S} seconds: send it again", _CLOSE) from error
        size = body.tell()
        body.seek(0)
        yield body, size
