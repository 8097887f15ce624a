"""How often somebody may guess a password."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

WINDOW_S = 300
_KEPT = 20_000


class Attempts:
    """Counts failed sign-ins of the last five minutes in this process: by name and address, by address, by name.

    A limit on names alone would let anybody lock anybody out, so it is the widest of the three.

    >>> attempts = Attempts(clock=lambda: 0.0)
    >>> for _ in range(5):
    ...     attempts.failed("ada", "192.0.2.1")
    >>> attempts.wait_s("ada", "192.0.2.1"), attempts.wait_s("ada", "192.0.2.2"), attempts.wait_s("bob", "192.0.2.1")
    (300, 0, 0)
    """

    def __init__(
        self, *, both: int = 5, address: int = 30, name: int = 100, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = (both, address, name)
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()
        self._lock = threading.RLock()

    def wait_s(self, name: str, address: str) -> int:
        """Seconds until this name may be tried from this address; 0 for now."""
        now = self._clock()
        with self._lock:
            waits = [0.0]
            for key, limit in zip(_keys(name, address), self._limits, strict=True):
                times = self._failures.get(key)
                while times and now - times[0] >= WINDOW_S:
                    times.popleft()
                if times and len(times) >= limit:
                    waits.append(times[-limit] + WINDOW_S - now)
        return round(max(waits) + 0.499)

    def begin(self, name: str, address: str) -> int:
        """Note an attempt before it is made, as failed until `succeeded` takes it back, and return 0.

        Where too many were made it is not noted: the seconds to wait. So of attempts at once none is overlooked.
        """
        with self._lock:
            wait = self.wait_s(name, address)
            if not wait:
                self.failed(name, address)
            return wait

    def failed(self, name: str, address: str) -> None:
        """Note a wrong password."""
        with self._lock:
            for key, limit in zip(_keys(name, address), self._limits, strict=True):
                times = self._failures.setdefault(key, deque(maxlen=limit))
                times.append(self._clock())
                self._failures.move_to_end(key)
            while len(self._failures) > _KEPT:
                self._failures.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of this name from this address, and the attempt that was noted elsewhere."""
        both, *others = _keys(name, address)
        with self._lock:
            self._failures.pop(both, None)
            for key in others:
                if times := self._failures.get(key):
                    times.pop()


def _keys(name: str, address: str) -> tuple[tuple[str, str], ...]:
    known = name.strip().lower()[:100]
    return (known, address), ("", address), (known, "")
