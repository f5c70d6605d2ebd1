"""Brief work of several threads, done by one of them in one turn.

Between two runs of a network everything else is out of the processor's caches, and takes three times as long
as right after its like. So the threads whose inputs are ready let one of them decode and embed all, and what
comes before and after happens together, too (flat combining: Hendler, Incze, Shavit and Tzafrir, SPAA 2010).
Knows no request and no network.
"""

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from service import metrics
from service.waiting.patience import Patience
from service.waiting.turns import Turns

# How long inputs that are ready wait for those that are about to be.
MOST_GRACE_S = 0.005

Step = Callable[[], None]


class Gathering:
    """Who works briefly now, and whose inputs are ready.

    Parameters
    ----------
    turns : one of them is taken for all whose inputs are ready.
    most : how many share a turn at most.
    """

    def __init__(self, turns: Turns, most: int) -> None:
        self.turns = turns
        self._most = most
        self._present = self._worked_on = 0
        self._ready: deque[_Place] = deque()
        self._leaders = 0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    @property
    def ready(self) -> int:
        """How many wait for a turn."""
        return len(self._ready)

    @property
    def at_once(self) -> int:
        """How many threads of brief work are of use."""
        return self._most * self.turns.brief_at_once

    @contextmanager
    def presence(self) -> Iterator[None]:
        """The length of brief work in a thread, of which a part may be done in `share`."""
        with self._lock:
            self._present += 1
        try:
            yield
        finally:
            with self._lock:
                self._present -= 1
                self._changed.notify()

    def share(self, steps: Sequence[Step], patience: Patience) -> None:
        """Have some steps done in a turn: first the first ones of all who share it, then the second ones.

        Raises
        ------
        ApiError
            504 `deadline_exceeded`: nobody waits for the work any more.
        BaseException
            What a step of these raised; the later ones are then left out.
        """
        place = _Place(steps, patience)
        with self._lock:
            self._ready.append(place)
            place.leads = self._leaders < self.turns.brief_at_once
            self._leaders += place.leads
            self._changed.notify()
        if not place.leads:
            self._wait(place)
        if place.leads:
            self._lead(place)
        metrics.observe_stage("queue", place.begun - place.since)
        if place.error is not None:
            raise place.error

    def _wait(self, place: "_Place") -> None:
        """Until it is done, or is to lead."""
        if place.called.acquire(timeout=min(max(place.patience.left_s, 0.0), threading.TIMEOUT_MAX)):
            return
        with self._lock:
            if place in self._ready and not place.leads:
                self._ready.remove(place)
                raise place.patience.expired()
        place.called.acquire()  # it was called at that moment, or is worked on

    def _lead(self, place: "_Place") -> None:
        group: list[_Place] = []
        try:
            self._wait_for_others()
            with self.turns.held(place.patience, brief=True):
                group = self._take(place)
                begun = time.perf_counter()
                for one in group:
                    one.begun = begun
                _work(group)
                self.turns.took((time.perf_counter() - begun) / len(group))
        finally:
            with self._lock:
                self._worked_on -= len(group)
                if not group:
                    self._ready.remove(place)
                self._leaders -= 1
                heir = next((one for one in self._ready if not one.leads), None)
                if heir is not None:
                    self._leaders += 1
                    heir.leads = True
                    heir.called.release()
            for one in group:
                if one is not place:
                    one.called.release()

    def _wait_for_others(self) -> None:
        until = time.monotonic() + MOST_GRACE_S
        with self._lock:
            while len(self._ready) < min(self._present - self._worked_on, self._most):
                left_s = until - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    return

    def _take(self, leader: "_Place") -> list["_Place"]:
        """The leader, and its share of those who have waited longest."""
        with self._lock:
            size = min(-(-len(self._ready) // self._leaders), self._most)
            self._ready.remove(leader)
            group = [leader, *[place for place in self._ready if not place.leads][: size - 1]]
            for place in group[1:]:
                self._ready.remove(place)
            self._worked_on += len(group)
        return group


class _Place:
    """Of one thread."""

    def __init__(self, steps: Sequence[Step], patience: Patience) -> None:
        self.steps = steps
        self.patience = patience
        self.context = contextvars.copy_context()  # of the request, whoever works for it
        self.since = self.begun = time.perf_counter()
        self.leads = False
        self.called = threading.Lock()
        self.called.acquire()
        self.error: BaseException | None = None


def _work(group: Sequence[_Place]) -> None:
    for number in range(max(len(place.steps) for place in group)):
        for place in group:
            if place.error is None and number < len(place.steps):
                try:
                    place.patience.require()
                    place.context.run(place.steps[number])
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is for that thread
                    place.error = error
