"""The requests that wait for one graph: in turn by who asks, within who asks by when.

A worker with a batch of thousands of images therefore delays another worker's single image by one batch at
most. Knows no device and no socket.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from service.devices.policy import BatchPolicy
from service.devices.sessions import Pixels, Rows


class LateError(Exception):
    """The deadline of a request passed while it waited."""


@dataclass(frozen=True, eq=False)
class Request:
    """Images of one caller, and its answer.

    Attributes
    ----------
    images : (n, height, width, 3)
    asker : who asks; all of one asker share one turn.
    expires_at : on the monotonic clock, in seconds; None: never.
    """

    images: Pixels
    asker: int
    expires_at: float | None = None
    came_at: float = field(default_factory=time.monotonic)
    answer: "Future[Rows]" = field(default_factory=Future)

    def __len__(self) -> int:
        return len(self.images)


class Waiting:
    """The queue; `put` and `next_batch` may be called from any thread. Who asks bounds what it asks for."""

    def __init__(self, policy: BatchPolicy) -> None:
        self.policy = policy
        self._changed = threading.Condition()
        self._by_asker: OrderedDict[int, deque[Request]] = OrderedDict()
        self._images = 0
        self._is_busy = False
        self._is_closed = False

    def __len__(self) -> int:
        """How many images wait."""
        return self._images

    def put(self, request: Request) -> None:
        """Add a request; after `close`, its answer is cancelled."""
        with self._changed:
            if self._is_closed:
                request.answer.cancel()
                return
            self._by_asker.setdefault(request.asker, deque()).append(request)
            self._images += len(request)
            self._changed.notify()

    def set_busy(self, is_busy: bool) -> None:
        """Say whether the device has something to do: while it has, only a full batch is taken."""
        with self._changed:
            self._is_busy = is_busy
            self._changed.notify()

    def next_batch(self) -> list[Request]:
        """Wait for the requests of the next batch; none after `close`."""
        with self._changed:
            while not self._is_closed:
                self._expire()
                if self._images and (not self._is_busy or self.policy.is_enough(self._images)):
                    break
                self._changed.wait()
            return [] if self._is_closed else list(self._taken(self.policy.take(self._images)))

    def close(self) -> None:
        """Let `next_batch` end and cancel what waits."""
        with self._changed:
            self._is_closed = True
            for requests in self._by_asker.values():
                for request in requests:
                    request.answer.cancel()
            self._by_asker.clear()
            self._images = 0
            self._changed.notify_all()

    def _taken(self, most: int) -> Iterator[Request]:
        """One request of each asker in turn, until the next one does not fit."""
        count = 0
        while self._by_asker:
            asker, requests = next(iter(self._by_asker.items()))
            if count and count + len(requests[0]) > most:
                return
            request = requests.popleft()
            self._by_asker.move_to_end(asker)
            if not requests:
                del self._by_asker[asker]
            self._images -= len(request)
            count += len(request)
            yield request

    def _expire(self) -> None:
        now = time.monotonic()
        for asker, requests in list(self._by_asker.items()):
            late = [item for item in requests if item.expires_at is not None and item.expires_at <= now]
            for request in late:
                requests.remove(request)
                self._images -= len(request)
                request.answer.set_exception(LateError())
            if not requests:
                del self._by_asker[asker]
