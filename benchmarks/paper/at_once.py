"""Several jobs at a time, each in a process of its own: what they find they leave in files."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess


def do_at_once(jobs: Sequence[Callable[[], object]], workers: int) -> None:
    """Do ``jobs``, ``workers`` at a time, in processes forked off this one, which torch allows where it has no GPU.

    Returns when all have ended, however they ended: a job that fails prints why. Where this process is interrupted
    its children end first.
    """
    forked = multiprocessing.get_context("fork")
    left, running = list(jobs), list[ForkProcess]()
    try:
        while left or running:
            while left and len(running) < workers:
                process = forked.Process(target=_do, args=(left.pop(0),))
                process.start()
                running.append(process)
            wait([process.sentinel for process in running])
            for process in [one for one in running if one.exitcode is not None]:
                process.join()
                running.remove(process)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.join()


def _do(job: Callable[[], object]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent decides when to end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job()
