"""From an event loop to threads: bytes that arrive are worked on while more arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

_BATCH_BYTES = 2 << 20
_BEHIND = 3

Pieces = Sequence[bytes]


async def hand_on(stream: AsyncIterator[bytes], *takers: Callable[[Pieces], None]) -> None:
    """Give all pieces of a stream, in order, to every taker, each in a thread of its own; what one raises, this raises.

    A taker may be a few batches of `_BATCH_BYTES` behind: that bounds the memory. None is at work any more on return.
    """
    async with AsyncExitStack() as stack:
        puts = [await stack.enter_async_context(_following(take)) for take in takers]
        async for batch in _batches(stream):
            for put in puts:
                await put(batch)


async def _batches(stream: AsyncIterator[bytes]) -> AsyncIterator[Pieces]:
    """The pieces of a stream, as they are, some megabytes at a time."""
    pieces, waiting = list[bytes](), 0
    async for piece in stream:
        pieces.append(piece)
        waiting += len(piece)
        if waiting >= _BATCH_BYTES:
            yield pieces
            pieces, waiting = [], 0
    yield pieces


@asynccontextmanager
async def _following(take: Callable[[Pieces], None]) -> AsyncIterator[Callable[[Pieces | None], Awaitable[None]]]:
    """Hand batches in order to a thread that may be `_BEHIND` of them behind; what it raises, the next call raises.

    All that waits is taken in one go: while others keep the event loop busy, the thread has enough to do.
    """
    queue = asyncio.Queue[Pieces | None](_BEHIND)

    async def work() -> None:
        ended = False
        while not ended:
            batches = [await queue.get()]
            while not queue.empty():
                batches.append(queue.get_nowait())
            ended = batches[-1] is None
            await asyncio.to_thread(_take_all, take, batches)

    async def put(batch: Pieces | None) -> None:
        if not queue.full() and not task.done():
            queue.put_nowait(batch)
            return
        putting = asyncio.ensure_future(queue.put(batch))
        await asyncio.wait({putting, task}, return_when=asyncio.FIRST_COMPLETED)
        if not putting.done():  # nobody takes any more
            putting.cancel()
            task.result()

    task = asyncio.create_task(work())
    try:
        yield put
        await put(None)
        await asyncio.wait({task})  # where this is cancelled, the task is not: its thread would work on alone
        task.result()
    finally:
        if not task.done():  # a thread cannot be stopped: it ends the batch in hand, before what it writes to is closed
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(None)
            await asyncio.wait({task})


def _take_all(take: Callable[[Pieces], None], batches: Iterable[Pieces | None]) -> None:
    for batch in batches:
        if batch is not None:
            take(batch)
