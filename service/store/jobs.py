"""The jobs of heads as their users see them: ask for, list, follow, cancel. `claims` is for workers."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select

from service.store import audit, job_events, named, tables
from service.store.caller import Caller
from service.store.database import Database
from service.store.errors import JobExistsError, JobNotFoundError
from service.store.job_events import NewEvent
from service.store.paging import page_of, page_size
from service.store.records import (
    CANCELLED,
    QUEUED,
    RUNNING,
    UNFINISHED,
    JobEvent,
    JobPosition,
    JobRow,
    JobState,
    Page,
)
from service.store.text import is_storable

LARGEST_SEQ = 2**63 - 1

_heads = tables.heads
_jobs = tables.jobs

ROWS = select(_jobs, _heads.c.name.label("head"), _heads.c.tenant).join(
    _heads, _heads.c.id == _jobs.c.head_id
)
ANY = ROWS.where(_jobs.c.id == bindparam("job"))
ONE = ANY.where(named.OF_TENANT)
NEWEST = (
    ROWS.where(named.OF_TENANT, _jobs.c.seq < bindparam("before"))
    .order_by(_jobs.c.seq.desc())
    .limit(bindparam("most"))
)
UNFINISHED_OF = select(_jobs.c.id).where(
    _jobs.c.head_id == bindparam("head"), _jobs.c.kind == bindparam("of_kind"), _jobs.c.state.in_(UNFINISHED)
)
POSITIONS = select(_jobs.c.id, _jobs.c.last_event, _jobs.c.state).where(
    _jobs.c.id.in_(bindparam("ids", expanding=True))
)
LAST_SEEN = select(func.max(tables.workers.c.seen_at, type_=tables.UtcDateTime()))


class Jobs:
    """The jobs of the heads of a tenant; safe to share between threads."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database = database
        self._caller = caller

    def create(self, head: str, kind: str, options: Mapping[str, Any]) -> JobRow:
        """Queue a job for a head.

        Parameters
        ----------
        options : JSON for the worker.

        Raises
        ------
        HeadNotFoundError
        JobExistsError
            The head has an unfinished job of this kind.
        """
        now = datetime.now(UTC)
        job_id = uuid.uuid4().hex
        with self._database.write() as connection:
            head_id = named.head_id(connection, self._caller, head, lock=True)
            there = connection.execute(UNFINISHED_OF, {"head": head_id, "of_kind": kind}).first()
            if there is not None:
                raise JobExistsError(head, kind, there.id)
            values = {
                "id": job_id,
                "head_id": head_id,
                "kind": kind,
                "state": QUEUED,
                "options": dict(options),
                "fraction": 0.0,
                "attempts": 0,
                "cancel_requested": False,
                "last_event": 1,
                "created_at": now,
            }
            connection.execute(insert(_jobs), values)
            job_events.add(connection, job_id, 1, [state_event(QUEUED)], now)
            audit.record(connection, self._caller, "job.create", head, {"job": job_id, "kind": kind})
            return self._read(connection, job_id)

    def get(self, job_id: str) -> JobRow:
        """The job as it is now.

        Raises
        ------
        JobNotFoundError
        """
        with self._database.single() as connection:
            return self._read(connection, job_id)

    def list(
        self,
        after: int | None = None,
        limit: int = 100,
        *,
        head: str | None = None,
        state: JobState | None = None,
    ) -> Page[JobRow, int]:
        """The jobs, newest first; those of one head and those in one state if they are given.

        Parameters
        ----------
        after : `seq` of the last job seen; the page starts with the one before it.

        Raises
        ------
        HeadNotFoundError
        """
        before = LARGEST_SEQ if after is None else max(0, min(after, LARGEST_SEQ))
        values = {"tenant": self._caller.tenant, "before": before, "most": page_size(limit) + 1}
        statement = NEWEST
        with self._database.snapshot() as connection:
            if head is not None:
                statement = statement.where(_jobs.c.head_id == named.head_id(connection, self._caller, head))
            if state is not None:
                statement = statement.where(_jobs.c.state == state)
            found = connection.execute(statement, values)
            rows = [JobRow(**row._mapping) for row in found]
        return page_of(rows, limit, lambda job: job.seq)

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> Sequence[JobEvent]:
        """What happened in a job since event `after`, oldest first; nothing if there is no such job.

        Asks for no tenant, as `positions` does not: for those who got the job by its id before.
        """
        with self._database.single() as connection:
            return job_events.after(connection, job_id, max(0, min(after, LARGEST_SEQ)), page_size(limit))

    def positions(self, job_ids: Sequence[str]) -> Mapping[str, JobPosition]:
        """Where each of the jobs is that are there: one cheap query for all."""
        with self._database.single() as connection:
            rows = connection.execute(POSITIONS, {"ids": list(job_ids)})
            return {row.id: JobPosition(row.last_event, row.state not in UNFINISHED) for row in rows}

    def cancel(self, job_id: str) -> JobRow:
        """Cancel a job: at once unless a worker holds it, which is then told. A finished job stays as it is.

        Raises
        ------
        JobNotFoundError
        """
        now = datetime.now(UTC)
        this = _jobs.c.id == job_id
        running = _jobs.c.state == RUNNING
        unheld = (_jobs.c.state == QUEUED) | (running & (_jobs.c.lease_expires_at < now))
        with self._database.write() as connection:
            self._read(connection, job_id)
            at_once = finishing(CANCELLED, now) | {"cancel_requested": True}
            done = job_events.advance(connection, (this, unheld), at_once, [state_event(CANCELLED)], now)
            if done is None:
                asked = [NewEvent("log", {"level": "info", "message": "cancel was asked for"})]
                held = (this, running, ~_jobs.c.cancel_requested)
                job_events.advance(connection, held, {"cancel_requested": True}, asked, now)
            row = self._read(connection, job_id)
            audit.record(connection, self._caller, "job.cancel", row.head, {"job": job_id})
            return row

    def worker_seen_at(self) -> datetime | None:
        """When a worker was last known to live."""
        with self._database.single() as connection:
            seen: datetime | None = connection.execute(LAST_SEEN).scalar_one()
        return seen

    def _read(self, connection: Connection, job_id: str) -> JobRow:
        row = None
        if is_storable(job_id):
            values = {"tenant": self._caller.tenant, "job": job_id}
            row = connection.execute(ONE, values).one_or_none()
        if row is None:
            raise JobNotFoundError(job_id)
        return JobRow(**row._mapping)


def read_any(connection: Connection, job_id: str) -> JobRow:
    """A job of whatever tenant, for a worker that holds it.

    Raises
    ------
    JobNotFoundError
    """
    row = connection.execute(ANY, {"job": job_id}).one_or_none()
    if row is None:
        raise JobNotFoundError(job_id)
    return JobRow(**row._mapping)


def state_event(state: JobState, **data: Any) -> NewEvent:
    return NewEvent("state", {"state": state, **data})


def finishing(state: JobState, now: datetime) -> dict[str, Any]:
    """The columns of a job that ends in a state, and belongs to no worker any more."""
    return {"state": state, "finished_at": now, "worker": None, "lease_expires_at": None}
