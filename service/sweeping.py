"""Lets memory forget what the database has forgotten: every process looks for it from time to time.

An embedding in memory is dropped once the database has it no more, whoever deleted it: a request to any
process or replica, `headstart forget`, or the bound of the cache. Knows no head.
"""

import logging
import threading
from collections.abc import Callable, Iterable

from service.embedder import Embedder
from service.store import StoreError

logger = logging.getLogger("headstart.sweeping")

EVERY_S = 60.0


class Sweeper:
    """One background thread.

    Parameters
    ----------
    embedders : gives those that are loaded now.
    """

    def __init__(self, embedders: Callable[[], Iterable[Embedder]], every_s: float = EVERY_S) -> None:
        self._embedders = embedders
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
        self._thread.start()

    def sweep(self) -> int:
        """Drop from memory what is not in the database now; how many embeddings."""
        return sum(embedder.sweep() for embedder in self._embedders())

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.sweep()
            except StoreError as error:
                logger.warning("memory was not swept: %s", error)
