"""Following jobs for any number of watchers: one cheap query at a time asks for the news of all of them.

A watcher holds neither a thread nor a connection to the database while it waits. Knows no HTTP.
"""

import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
from anyio import to_thread

from service.store import JobEvent, JobPosition, Store, StoreUnavailableError

logger = logging.getLogger("headstart.jobs")

POLL_S = 0.5
SILENCE_S = 15.0  # proxies cut off what is silent for a minute
THREADS = 2
EVENTS_AT_ONCE = 200

P = ParamSpec("P")
T = TypeVar("T")


class Watchers:
    """All watchers of one process; to be used in its event loop, `end` anywhere.

    Parameters
    ----------
    silence_s : after how long without news a watcher is told that there is none, in seconds.
    """

    def __init__(self, store: Store, *, silence_s: float = SILENCE_S) -> None:
        self._store = store
        self._silence_s = silence_s
        self._watched: Counter[str] = Counter()
        self._positions: Mapping[str, JobPosition] = {}
        self._looked_at = 0.0
        self._looking = anyio.Lock()
        # Not the threads of the requests, which may all be busy with networks.
        self._threads = anyio.CapacityLimiter(THREADS)
        self._ended = False

    def __len__(self) -> int:
        """How many watchers there are."""
        return self._watched.total()

    def end(self) -> None:
        """Let every watcher end, now and from now on."""
        self._ended = True

    async def follow(self, job_id: str, after: int) -> AsyncGenerator[JobEvent | None, None]:
        """The events of a job that follow event `after`, as they come, until the job has ended or is gone.

        Yields
        ------
        Events; None where there was none for a while.
        """
        self._watched[job_id] += 1
        try:
            heard_at = time.monotonic()
            while not self._ended:
                position = await self._position(job_id)
                if position is None:
                    return
                news: Sequence[JobEvent] = ()
                if position.last_event > after:
                    news = await self._off_loop(self._store.jobs.events, job_id, after, EVENTS_AT_ONCE)
                for event in news:
                    yield event
                    after = event.seq
                    heard_at = time.monotonic()
                if position.is_finished and position.last_event <= after:
                    return
                if time.monotonic() - heard_at >= self._silence_s:
                    heard_at = time.monotonic()
                    yield None
                if not news:
                    await anyio.sleep(POLL_S)
        except StoreUnavailableError as error:
            # The watcher may come back, and go on after the last event that it saw.
            logger.warning("a watcher of job %s is let go: %s", job_id, error)
        finally:
            self._watched[job_id] -= 1
            self._watched = +self._watched  # without those that nobody watches

    async def _position(self, job_id: str) -> JobPosition | None:
        """Where a job is, at most `POLL_S` old; None if it is gone."""
        async with self._looking:
            is_old = time.monotonic() - self._looked_at >= POLL_S
            if is_old or job_id not in self._positions:
                self._positions = await self._off_loop(self._store.jobs.positions, list(self._watched))
                self._looked_at = time.monotonic()
            return self._positions.get(job_id)

    async def _off_loop(self, ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await to_thread.run_sync(partial(ask, *args, **kwargs), limiter=self._threads)
