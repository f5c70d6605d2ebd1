"""Whose turn it is to use a core: first come, first served, one chunk of work at a time.

A batch asks again for each of its chunks and goes to the end of the queue each time, so that a small request
waits for a chunk of everybody before it, never for a whole batch. Knows no request and no network.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from service import metrics
from service.patience import Patience


class Turns:
    """A fair semaphore: who leaves hands its turn to who has waited longest.

    Parameters
    ----------
    at_once : how many turns there are at a time.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._free = at_once
        self._waiting: deque[threading.Lock] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @contextmanager
    def turn(self, patience: Patience) -> Iterator[None]:
        """Wait for a turn and hold it for the length of the block.

        Raises
        ------
        ApiError
            504 `deadline_exceeded`: nobody waits for the work any more.
        """
        start = time.perf_counter()
        self._enter(patience)
        metrics.observe_stage("queue", time.perf_counter() - start)
        try:
            patience.require()
            yield
        finally:
            self._leave()

    def _enter(self, patience: Patience) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            called = threading.Lock()
            called.acquire()
            self._waiting.append(called)
        left_s = patience.left_s
        if called.acquire(timeout=min(max(left_s, 0.0), threading.TIMEOUT_MAX)):
            return
        with self._lock:
            if called in self._waiting:
                self._waiting.remove(called)
                raise patience.expired()
        # It was called at that moment.

    def _leave(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
