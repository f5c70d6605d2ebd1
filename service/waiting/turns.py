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
from service.waiting.patience import Patience

SMOOTHING = 0.1  # of the time of a turn


class Turns:
    """A fair semaphore: who leaves hands its turn to who has waited longest and may have it.

    Parameters
    ----------
    at_once : how many turns there are at a time.
    brief_at_once : how many of them work that is brief may have: more than the share of this process in the
        cores only make the threads of all processes wait for each other. None: all.
    """

    def __init__(self, at_once: int, brief_at_once: int | None = None) -> None:
        self.at_once = at_once
        self._free = at_once
        self._free_for_brief = at_once if brief_at_once is None else min(brief_at_once, at_once)
        self.brief_at_once = self._free_for_brief
        self._typical_s = 0.0
        self._waiting: deque[tuple[threading.Lock, bool]] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def in_use(self) -> int:
        return self.at_once - self._free

    def wait_s(self, before: int) -> float:
        """About how long an input waits behind so many, by how long they took of late, in seconds."""
        return before * self._typical_s / self.brief_at_once

    @contextmanager
    def turn(self, patience: Patience, *, brief: bool = False, pieces: int = 1) -> Iterator[None]:
        """Wait for a turn and hold it for the length of the block.

        Parameters
        ----------
        patience : of who asks.
        brief : whether this is all that a request needs, rather than a part of a batch.
        pieces : how many inputs are worked on in it.

        Raises
        ------
        ApiError
            504 `deadline_exceeded`: nobody waits for the work any more.
        """
        start = time.perf_counter()
        with self.held(patience, brief=brief):
            begun = time.perf_counter()
            metrics.observe_stage("queue", begun - start)
            yield
            self.took((time.perf_counter() - begun) / pieces)

    @contextmanager
    def held(self, patience: Patience, *, brief: bool = False) -> Iterator[None]:
        """As `turn`, for who observes the times itself."""
        self._enter(patience, brief)
        try:
            patience.require()
            yield
        finally:
            self._leave(brief)

    def took(self, seconds: float) -> None:
        """Tell how long an input took that was worked on in a turn."""
        self._typical_s += SMOOTHING * (seconds - self._typical_s)

    def _enter(self, patience: Patience, brief: bool) -> None:
        with self._lock:
            if self._take(brief):  # nobody waits who could have it
                return
            called = threading.Lock()
            called.acquire()
            place = (called, brief)
            self._waiting.append(place)
        left_s = patience.left_s
        if called.acquire(timeout=min(max(left_s, 0.0), threading.TIMEOUT_MAX)):
            return
        with self._lock:
            if place in self._waiting:
                self._waiting.remove(place)
                raise patience.expired()
        # It was called at that moment.

    def _take(self, brief: bool) -> bool:
        if not self._free or (brief and not self._free_for_brief):
            return False
        self._free -= 1
        self._free_for_brief -= brief
        return True

    def _leave(self, brief: bool) -> None:
        with self._lock:
            self._free += 1
            self._free_for_brief += brief
            for place in self._waiting:
                if self._take(place[1]):
                    self._waiting.remove(place)
                    place[0].release()
                    return
