"""Forms batches of what waits for a graph and runs them, one after the other, without a gap.

While a batch runs, the next one is copied together if it is full already; if not, it waits for more until the
device is free. Knows no socket and no process.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, wait
from concurrent.futures import InvalidStateError as AnsweredError

import numpy as np

from service import metrics
from service.devices.bound import BoundSession
from service.devices.policy import BatchPolicy
from service.devices.sessions import Pixels, Rows
from service.devices.waiting import Request, Waiting

logger = logging.getLogger("headstart.devices")

# One runs, the next is ready.
BUFFERS = 2


class Batcher:
    """Runs a graph for many callers at once. Ends with the last reference to it, or by `close`.

    Parameters
    ----------
    session : only this batcher runs it.
    failed : told how many batches in a row have failed, after each that has.
    """

    def __init__(self, session: BoundSession, failed: Callable[[int], None]) -> None:
        self.session = session
        self.waiting = Waiting(BatchPolicy(session.times))
        work = _Work(session, self.waiting, failed)
        self._work = work
        self._thread = threading.Thread(target=work.run, name="batches", daemon=True)
        self._thread.start()
        self._end = weakref.finalize(self, self.waiting.close)

    def submit(self, images: Pixels, asker: int, *, within_s: float | None = None) -> "Future[Rows]":
        """Ask for the rows of some images.

        Parameters
        ----------
        images : (n, height, width, 3), n up to the largest batch size; not to be changed before the answer.
        asker : who asks: all askers have equal turns.
        within_s : how long the answer is of use, in seconds.

        Returns
        -------
        Future of the rows (n, width), or of a DeviceError or LateError; cancelled if the batcher is closed.
        """
        now = time.monotonic()
        request = Request(images, asker, None if within_s is None else now + within_s, now)
        self.waiting.put(request)
        return request.answer

    @property
    def running_since(self) -> float | None:
        """When the batch that runs began, on the monotonic clock, in seconds; None: none runs."""
        return self._work.running_since

    @property
    def batches(self) -> int:
        """How many batches have run."""
        return self._work.batches

    @property
    def images(self) -> int:
        """How many images they had."""
        return self._work.images

    def close(self) -> None:
        """End after the batch that runs; what waits is cancelled."""
        self._end()
        self._thread.join()
        self.session.close()


class _Work:
    """What the thread of a batcher does; does not refer to the batcher, so that its last user can let go."""

    def __init__(self, session: BoundSession, waiting: Waiting, failed: Callable[[int], None]) -> None:
        self._session = session
        self._waiting = waiting
        self._tell_failed = failed
        self._failures = 0
        self._lock = threading.Lock()
        self._under_way = 0
        self._last_end_s = 0.0
        self.batches = 0
        self.images = 0
        self.running_since: float | None = None

    def run(self) -> None:
        shape = (self._session.buckets.largest, *self._session.image_shape)
        buffers = [np.zeros(shape, np.uint8) for _ in range(BUFFERS)]
        under_way: list[Future[Rows] | None] = [None] * BUFFERS
        turn = 0
        while requests := self._waiting.next_batch():
            before = under_way[turn]
            if before is not None:
                wait([before])
            under_way[turn] = self._start(requests, buffers[turn])
            turn = (turn + 1) % BUFFERS

    def _start(self, requests: Sequence[Request], buffer: Pixels) -> "Future[Rows]":
        now = time.monotonic()
        count = 0
        for request in requests:
            metrics.QUEUE_SECONDS.observe(now - request.came_at)
            buffer[count : count + len(request)] = request.images
            count += len(request)
        size = self._session.buckets.over(count)
        buffer[count:size] = 0
        metrics.BATCH_IMAGES.observe(count)
        with self._lock:
            self._under_way += 1
            self.running_since = self.running_since or now
        self._waiting.set_busy(True)
        future = self._session.start(buffer[:size], count)
        future.add_done_callback(lambda done: self._finish(done, requests, size, now))
        return future

    def _finish(self, done: "Future[Rows]", requests: Sequence[Request], size: int, start_s: float) -> None:
        now = time.monotonic()
        seconds = now - max(start_s, self._last_end_s)
        self._last_end_s = now
        with self._lock:
            self._under_way -= 1
            is_busy = self._under_way > 0
            self.running_since = now if is_busy else None
        self._waiting.set_busy(is_busy)
        error = CancelledError() if done.cancelled() else done.exception()
        if error is None:
            self._failures = 0
            self.batches += 1
            self.images += sum(len(request) for request in requests)
            metrics.BATCH_SECONDS.observe(seconds)
            self._waiting.policy.ran(size, seconds)
            _answer(requests, done.result())
            return
        self._failures += 1
        logger.error("a batch of %d failed: %s", size, error)
        for request in requests:
            _settle(request, error)
        self._tell_failed(self._failures)


def _answer(requests: Sequence[Request], rows: Rows) -> None:
    start = 0
    for request in requests:
        _settle(request, rows[start : start + len(request)])
        start += len(request)


def _settle(request: Request, found: Rows | BaseException) -> None:
    """Answer a request, unless it was given up."""
    try:
        if isinstance(found, BaseException):
            request.answer.set_exception(found)
        else:
            request.answer.set_result(found)
    except AnsweredError:
        return
