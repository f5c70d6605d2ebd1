"""Lets memory forget what the database has forgotten: every process looks for it from time to time.

An embedding or a head version in memory is dropped once the database has it no more, whoever deleted it: a
request to any process or replica, `headstart forget`, or the bound of the cache. The system then gets the
memory back.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from service.prediction.heap import trim
from service.prediction.predictor import HeadCache
from service.prediction.stacks import Stacks
from service.store import Store, StoreError

logger = logging.getLogger("headstart.sweeping")

EVERY_S = 60.0


class Sweeper:
    """One background thread.

    Parameters
    ----------
    sweeps : each drops from one memory what is not in the database now, and says how many things.
    """

    def __init__(self, sweeps: Sequence[Callable[[], int]], every_s: float = EVERY_S) -> None:
        self._sweeps = tuple(sweeps)
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
        self._thread.start()

    def sweep(self) -> int:
        """Drop from memory what is not in the database now; how many embeddings, versions and stacks."""
        dropped = sum(sweep() for sweep in self._sweeps)
        trim()
        return dropped

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.sweep()
            except StoreError as error:
                logger.warning("memory was not swept: %s", error)


def sweep_versions(store: Store, heads: HeadCache, stacks: Stacks) -> int:
    """Drop head versions, of all tenants, that the database does not have now; how many, and their stacks."""
    kept, stacked = heads.keys(), stacks.keys()
    there = store.versions.existing({*kept, *(version for versions in stacked for version in versions)})
    gone = [version for version in kept if version not in there]
    heads.drop(gone)
    broken = [versions for versions in stacked if not there.issuperset(versions)]
    stacks.drop(broken)
    return len(gone) + len(broken)
