"""Bodies on their way in: given up where they stall; those that are needed whole wait on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO

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
        arriving = True

        async def hurried() -> Message:
            nonlocal arriving
            try:
                async with asyncio.timeout(IDLE_S if arriving else None):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408, f"no byte came for {IDLE_S} seconds: send it again", _CLOSE) from error
            arriving = bool(message.get("more_body"))
            return message

        await self._app(scope, hurried, send)


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
