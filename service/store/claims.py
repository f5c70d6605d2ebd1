"""What workers do with jobs: claim, renew, report, finish. Every write compares before it sets.

A claim is a lease: whoever does not renew it in time loses the job to the next worker. A job is held by
the `worker` and the number of the attempt together; a write by anyone else changes nothing and raises
JobLostError.
Knows neither what a job does nor how a worker tells that another one is gone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, insert, select, update

from service.store import job_events, tables
from service.store.database import Database
from service.store.errors import JobLostError
from service.store.job_events import NewEvent
from service.store.jobs import ROWS, finishing, read_any, state_event
from service.store.records import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, JobRow

LOOK_AHEAD = 16  # queued jobs that a worker reads at once; others may take the first of them meanwhile
FORGET_WORKERS_AFTER = timedelta(days=1)

_jobs = tables.jobs
_workers = tables.workers

_kind_in = _jobs.c.kind.in_(bindparam("kinds", expanding=True))
HELD = ROWS.where(_jobs.c.state == RUNNING, _kind_in).order_by(_jobs.c.seq)
WAITING = ROWS.where(_jobs.c.state == QUEUED, _kind_in).order_by(_jobs.c.seq).limit(LOOK_AHEAD)
UNFINISHED_IDS = select(_jobs.c.id).where(_jobs.c.state.in_((QUEUED, RUNNING)))


@dataclass(frozen=True)
class JobProgress:
    """How far a job is: the stage, the fraction of the whole (0 to 1), and the epoch where it has epochs."""

    stage: str
    fraction: float
    epoch: int | None = None
    epochs: int | None = None


class Claims:
    """The jobs as workers see them; safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(
        self,
        worker: str,
        *,
        kinds: Sequence[str],
        lease_s: float,
        max_attempts: int,
        is_gone: Callable[[str], bool],
    ) -> JobRow | None:
        """Take the job that another worker left behind, else the oldest queued one.

        An abandoned job is failed instead once it was begun `max_attempts` times, and cancelled if that was
        asked for.

        Parameters
        ----------
        worker : the name of the one who asks, unique to its process.
        kinds : what it can carry out.
        lease_s : for how long the job is its own unless it renews, in seconds.
        is_gone : whether the process of a worker's name is known to have ended.

        Returns
        -------
        The job, now running; None if there is nothing to do.
        """
        while True:
            held, waiting = self._candidates(kinds)
            now = datetime.now(UTC)
            abandoned = [job for job in held if _is_expired(job, now) or is_gone(job.worker or "")]
            for job in (*abandoned, *waiting):
                taken = self._take(job, worker, lease_s, max_attempts)
                if taken is not None and taken.state == RUNNING:
                    return taken
            if not waiting:
                return None

    def renew(self, job: JobRow, lease_s: float) -> bool:
        """Hold a job for another `lease_s` seconds.

        Returns
        -------
        Whether its cancellation was asked for.

        Raises
        ------
        JobLostError
            It was taken over, cancelled or deleted.
        """
        now = datetime.now(UTC)
        until = now + timedelta(seconds=lease_s)
        statement = update(_jobs).where(*_held(job)).values(lease_expires_at=until)
        with self._database.write(durable=False) as connection:
            asked = connection.execute(statement.returning(_jobs.c.cancel_requested)).one_or_none()
            _see(connection, job.worker or "", now)
        if asked is None:
            raise JobLostError(job.id)
        return bool(asked.cancel_requested)

    def report(self, job: JobRow, progress: JobProgress | None, events: Sequence[NewEvent]) -> None:
        """Write down how far a job is and what happened in it.

        Raises
        ------
        JobLostError
        """
        values = {} if progress is None else dict(vars(progress))
        self._advance(job, values, events, durable=False)

    def succeed(self, job: JobRow, result: Mapping[str, Any]) -> None:
        """End a job with its result, which must be JSON.

        Raises
        ------
        JobLostError
        """
        values = finishing(SUCCEEDED, datetime.now(UTC)) | {"result": dict(result), "fraction": 1.0}
        self._advance(job, values, [state_event(SUCCEEDED)])

    def fail(self, job: JobRow, code: str, message: str) -> None:
        """End a job with an error.

        Raises
        ------
        JobLostError
        """
        self._advance(job, *_failed(code, message))

    def cancelled(self, job: JobRow) -> None:
        """End a job whose cancellation was asked for.

        Raises
        ------
        JobLostError
        """
        self._advance(job, finishing(CANCELLED, datetime.now(UTC)), [state_event(CANCELLED)])

    def release(self, job: JobRow, reason: str, *, counts: bool) -> None:
        """Put a job back into the queue, in its old place.

        Parameters
        ----------
        counts : whether the attempt was one of those that a job has.

        Raises
        ------
        JobLostError
        """
        values = {
            "state": QUEUED,
            "worker": None,
            "lease_expires_at": None,
            "attempts": job.attempts - (0 if counts else 1),
        }
        self._advance(job, values, [state_event(QUEUED, reason=reason)])

    def seen(self, worker: str) -> None:
        """Tell that a worker lives and waits for jobs."""
        with self._database.write(durable=False) as connection:
            _see(connection, worker, datetime.now(UTC))

    def leave(self, worker: str) -> None:
        """Tell that a worker ends."""
        with self._database.write(durable=False) as connection:
            connection.execute(delete(_workers).where(_workers.c.name == worker))

    def unfinished_ids(self) -> frozenset[str]:
        """The jobs whose run folders are still of use."""
        with self._database.single() as connection:
            return frozenset(connection.execute(UNFINISHED_IDS).scalars())

    def _candidates(self, kinds: Sequence[str]) -> tuple[list[JobRow], list[JobRow]]:
        with self._database.snapshot() as connection:
            held = [JobRow(**row._mapping) for row in connection.execute(HELD, {"kinds": list(kinds)})]
            waiting = [JobRow(**row._mapping) for row in connection.execute(WAITING, {"kinds": list(kinds)})]
        return held, waiting

    def _take(self, job: JobRow, worker: str, lease_s: float, max_attempts: int) -> JobRow | None:
        """Make a job the worker's if it is still as it was read, or end it; None if it is another by now."""
        now = datetime.now(UTC)
        as_read = (*_held(job), _jobs.c.lease_expires_at == job.lease_expires_at)
        values: dict[str, Any]
        if job.cancel_requested:
            values, events = finishing(CANCELLED, now), [state_event(CANCELLED)]
        elif job.attempts >= max_attempts:
            values, events = _failed("attempts_exhausted", _exhausted(job))
        else:
            until = now + timedelta(seconds=lease_s)
            values = {
                "state": RUNNING,
                "worker": worker,
                "lease_expires_at": until,
                "attempts": job.attempts + 1,
                "started_at": job.started_at or now,
            }
            events = [state_event(RUNNING, attempt=job.attempts + 1, worker=worker)]
        with self._database.write() as connection:
            changed = job_events.advance(connection, as_read, values, events, now)
            return None if changed is None else read_any(connection, changed)

    def _advance(
        self, job: JobRow, values: Mapping[str, Any], events: Sequence[NewEvent], *, durable: bool = True
    ) -> None:
        with self._database.write(durable=durable) as connection:
            changed = job_events.advance(connection, _held(job), values, events, datetime.now(UTC))
        if changed is None:
            raise JobLostError(job.id)


def _held(job: JobRow) -> tuple[ColumnElement[bool], ...]:
    """That the job is in the state, and in the hands, that the row says."""
    return (
        _jobs.c.id == job.id,
        _jobs.c.state == job.state,
        _jobs.c.worker == job.worker,
        _jobs.c.attempts == job.attempts,
    )


def _is_expired(job: JobRow, now: datetime) -> bool:
    return job.lease_expires_at is None or job.lease_expires_at < now


def _failed(code: str, message: str) -> tuple[dict[str, Any], list[NewEvent]]:
    error = {"code": code, "message": message}
    return finishing(FAILED, datetime.now(UTC)) | {"error": error}, [state_event(FAILED, error=error)]


def _exhausted(job: JobRow) -> str:
    last = f", the last time on {job.worker}" if job.worker else ""
    return (
        f"a worker began this job {job.attempts} times and ended each time before it was done{last};"
        " it may have been short of memory: see the log of the worker and of its system"
    )


def _see(connection: Connection, worker: str, now: datetime) -> None:
    known = connection.execute(update(_workers).where(_workers.c.name == worker).values(seen_at=now))
    if known.rowcount == 0:
        connection.execute(insert(_workers), {"name": worker, "seen_at": now})
        connection.execute(delete(_workers).where(_workers.c.seen_at < now - FORGET_WORKERS_AFTER))
