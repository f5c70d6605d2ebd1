"""A worker: takes jobs one after the other, hands each to its runner, and writes down how it ended.

Knows no kind of job and no signal; is told when to stop.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from service.errors import ApiError
from service.jobs.folders import remove_ended
from service.jobs.job import Job, Runner, StoppedError
from service.jobs.lease import Lease
from service.jobs.presence import Presence
from service.jobs.signals import StopSignals
from service.store import JobLostError, JobRow, Store, StoreUnavailableError
from training.errors import HeadstartError

logger = logging.getLogger("headstart.worker")

SEEN_EVERY_S = 10.0
MAX_MESSAGE = 2000


class Worker:
    """Carries out jobs until it is told to stop.

    Parameters
    ----------
    runners : by the kind of job that each carries out.
    home : folder of the run folders, HOME/jobs.
    lease_s : how long a job is its own without a renewal, in seconds.
    max_attempts : how often a job is begun before it has failed.
    """

    def __init__(
        self,
        store: Store,
        runners: Mapping[str, Runner],
        presence: Presence,
        signals: StopSignals,
        *,
        home: Path,
        lease_s: float,
        max_attempts: int,
    ) -> None:
        self._store = store
        self._runners = runners
        self._presence = presence
        self._signals = signals
        self._jobs_folder = home.absolute() / "jobs"
        self._lease_s = lease_s
        self._max_attempts = max_attempts
        self._seen_at = -SEEN_EVERY_S
        self._is_swept = False

    def run(self, *, once: bool, poll_s: float) -> None:
        """Work until a signal comes.

        Parameters
        ----------
        once : end as soon as there is no job to take.
        poll_s : how long to wait before asking for jobs again, in seconds.
        """
        logger.info("worker %s waits for jobs", self._presence.name)
        while not self._signals.asked:
            job = self._next()
            if job is not None:
                self._carry_out(job)
                # The next time that there is nothing to do.
                self._is_swept = False
            elif once:
                break
            else:
                self._signals.wait(poll_s)
        self._leave()

    def _next(self) -> JobRow | None:
        try:
            self._tell_of_life()
            job = self._store.claims.claim(
                self._presence.name,
                kinds=list(self._runners),
                lease_s=self._lease_s,
                max_attempts=self._max_attempts,
                is_gone=self._presence.is_gone,
            )
            if job is None and not self._is_swept:
                self._sweep()
                self._is_swept = True
        except StoreUnavailableError as error:
            logger.warning("%s", error)
            return None
        return job

    def _carry_out(self, row: JobRow) -> None:
        again = f", attempt {row.attempts}" if row.attempts > 1 else ""
        logger.info("job %s of head %s: %s begins%s", row.id, row.head, row.kind, again)
        folder = self._jobs_folder / row.id
        claims = self._store.claims
        lease = Lease(claims, row, self._lease_s)
        job = Job(row, folder, claims, lease, lambda: self._signals.asked)
        try:
            with lease:
                folder.mkdir(parents=True, exist_ok=True)
                result = self._runners[row.kind].run(job)
            claims.succeed(row, result)
            logger.info("job %s succeeded", row.id)
        except StoppedError:
            self._stopped(row, lease)
        except JobLostError as error:
            logger.warning("%s", error)
        except StoreUnavailableError as error:
            self._give_back(row, f"the store did not answer: {error}", counts=True)
        except (HeadstartError, ApiError) as error:
            self._fail(row, error.code, str(error))
        except Exception as error:
            logger.exception("job %s failed", row.id)
            message = f"{type(error).__name__} in the worker; its log has more under the id of this job"
            self._fail(row, "internal_error", message)

    def _stopped(self, row: JobRow, lease: Lease) -> None:
        if lease.is_lost:
            logger.warning("job %s is left to others: its lease ran out", row.id)
        elif lease.is_cancelled:
            self._write(row, lambda: self._store.claims.cancelled(row))
            logger.info("job %s is cancelled", row.id)
        else:
            self._give_back(row, "the worker was asked to end", counts=False)

    def _give_back(self, row: JobRow, reason: str, *, counts: bool) -> None:
        self._write(row, lambda: self._store.claims.release(row, reason, counts=counts))
        logger.info("job %s is queued again: %s", row.id, reason)

    def _fail(self, row: JobRow, code: str, message: str) -> None:
        self._write(row, lambda: self._store.claims.fail(row, code, message[:MAX_MESSAGE]))
        logger.error("job %s failed: %s: %s", row.id, code, message)

    def _write(self, row: JobRow, write: Callable[[], None]) -> None:
        """Write how a job ended; if that cannot be, its lease runs out and another attempt is made."""
        try:
            write()
        except (JobLostError, StoreUnavailableError) as error:
            logger.warning("the end of job %s could not be written: %s", row.id, error)

    def _tell_of_life(self) -> None:
        if time.monotonic() - self._seen_at >= SEEN_EVERY_S:
            self._store.claims.seen(self._presence.name)
            self._seen_at = time.monotonic()

    def _leave(self) -> None:
        try:
            self._store.claims.leave(self._presence.name)
        except StoreUnavailableError as error:
            logger.warning("%s", error)
        logger.info("worker %s ends", self._presence.name)

    def _sweep(self) -> None:
        """Remove what workers left behind that were killed, once their jobs were taken over."""
        remove_ended(self._store, self._jobs_folder)
        self._presence.sweep()
