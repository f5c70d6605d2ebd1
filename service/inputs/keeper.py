"""Writes the original bytes of examples while they are embedded, and takes them back if that fails.

What was written belongs to the request until a commit may have taken it over. Knows no head and no rows.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from service.store import NewInput, Store, StoreUnavailableError
from training.errors import HeadstartError

# A write waits for the disk or for a server, hardly for a core.
THREADS = 8
# A start of another process takes a blob without a row for one that a crash left, after an hour.
STALE_S = 1800.0

Writing = dict[bytes, "Future[NewInput]"]


class Keeping:
    """The inputs of one request on their way into the store. `Keeper.keeping` makes one."""

    def __init__(self, store: Store, pool: ThreadPoolExecutor) -> None:
        self._store = store
        self._pool = pool
        self._writing: Writing = {}
        self._started_s = time.monotonic()
        self._own: list[Future[NewInput]] = []  # those that no commit was given

    def start(self, inputs: Sequence[bytes]) -> None:
        """Begin to write inputs that are not being written yet."""
        for data in inputs:
            if data not in self._writing:
                future = self._pool.submit(self._store.inputs.write, data)
                self._writing[data] = future
                self._own.append(future)

    def written(self, inputs: Mapping[str, bytes]) -> Mapping[str, NewInput]:
        """Wait until inputs, by their sha256, are written; begin with those that were not begun.

        Raises
        ------
        StoreUnavailableError
            One cannot be written.
        """
        if time.monotonic() - self._started_s > STALE_S:
            self._writing, self._started_s = {}, time.monotonic()
        self.start(list(inputs.values()))
        return {key: self._writing[data].result() for key, data in inputs.items()}

    @contextmanager
    def given(self, written: Mapping[str, NewInput]) -> Iterator[None]:
        """Give inputs to a commit, the block: they are its own unless it says that it wrote nothing.

        After an unavailable store it is not known whether it did; the next start of a server finds out.
        """
        given = {item.blob for item in written.values()}
        kept, self._own = self._own, [future for future in self._own if _blob(future) not in given]
        try:
            yield
        except StoreUnavailableError:
            raise
        except HeadstartError:
            self._own = kept
            raise

    def close(self) -> None:
        """Delete what was written for nothing."""
        for future in self._own:
            future.cancel()
        wait(self._own)
        orphans = [future.result() for future in self._own if _blob(future)]
        if orphans:
            self._store.inputs.discard(orphans)


class Keeper:
    """Threads that write kept inputs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="keep")

    @contextmanager
    def keeping(self, inputs: Sequence[bytes]) -> Iterator[Keeping]:
        """Begin to write inputs, and for as long as the block lasts.

        Parameters
        ----------
        inputs : the bytes of each; none of them for a head that keeps nothing.
        """
        keeping = Keeping(self._store, self._pool)
        keeping.start(inputs)
        try:
            yield keeping
        finally:
            keeping.close()

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown(cancel_futures=True)


def _blob(future: "Future[NewInput]") -> str | None:
    """The key of what was written; None if nothing was."""
    if future.cancelled() or not future.done() or future.exception():
        return None
    return future.result().blob
