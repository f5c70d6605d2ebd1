"""A few threads that wait for work. Knows nothing of it."""

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Crew:
    """A fixed number of threads, each with one piece of work at a time, first come, first served.

    Beside `concurrent.futures` it keeps no result and no state of the work, whose locks took longer than the
    rest of the way to a thread and back.

    Parameters
    ----------
    size : how many threads.
    name : of the threads.
    """

    def __init__(self, size: int, name: str) -> None:
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True)
            for number in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], object]) -> None:
        """Have something done, which must not raise."""
        self._queue.put(work)

    def close(self) -> None:
        """Do what was submitted, and wait until it is done."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
            del work  # what it holds is not needed while this thread waits
