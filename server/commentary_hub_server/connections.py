"""Connections as uvicorn serves them, given up where a request's head never ends: uvicorn would keep them for ever."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 60  # from a connection's beginning, or the first byte behind a reply: what nginx grants too


class Prompt(HttpToolsProtocol):
    """Closes a connection that owes a whole head for `HEAD_S`; the body behind it is the application's to wait for."""

    _owes_head = True
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head from now on."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_S, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Wait for the next head from its first byte on; until then uvicorn closes what is idle."""
        super().data_received(data)
        if self._owes_head and self._timer is None and self.cycle is not None and self.cycle.response_complete:
            self._timer = self.loop.call_later(HEAD_S, self._give_up)

    def on_headers_complete(self) -> None:
        """Wait no longer."""
        self._owes_head = False
        self._stop()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Owe another head."""
        self._owes_head = True
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop()
        super().connection_lost(exc)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        self.transport.close()
