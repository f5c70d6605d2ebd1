"""What happened in jobs, in order, and bounded: the oldest events of a kind make way for new ones.

Every write to a job goes through `advance`, which changes the job and adds the events in one step, so that
a reader who has seen event n knows all that led to it. Knows no worker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, insert, select, update

from service.store import tables
from service.store.records import EventKind, JobEvent

# How many events of each kind a job keeps, at most.
KEPT: Mapping[EventKind, int] = {"progress": 500, "log": 1000, "state": 100}

_jobs = tables.jobs
_events = tables.job_events

AFTER = (
    select(_events.c.seq, _events.c.at, _events.c.kind, _events.c.data)
    .where(_events.c.job_id == bindparam("job"), _events.c.seq > bindparam("after"))
    .order_by(_events.c.seq)
    .limit(bindparam("most"))
)
_of_kind = (_events.c.job_id == bindparam("job")) & (_events.c.kind == bindparam("of_kind"))
OLDEST_KEPT = (
    select(_events.c.seq).where(_of_kind).order_by(_events.c.seq.desc()).limit(1).offset(bindparam("newer"))
)
TRIM = delete(_events).where(_of_kind, _events.c.seq < bindparam("oldest"))


@dataclass(frozen=True)
class NewEvent:
    """An event to add; `data` must be JSON (no NaN)."""

    kind: EventKind
    data: Mapping[str, Any]


def advance(
    connection: Connection,
    expected: Sequence[ColumnElement[bool]],
    values: Mapping[str, Any],
    events: Sequence[NewEvent],
    now: datetime,
) -> str | None:
    """Change the one job that is as expected and add events to it: compare and set.

    Returns
    -------
    The job's id; None if no job is as expected, and then nothing was written.
    """
    changed = {**values, "last_event": _jobs.c.last_event + len(events)}
    statement = update(_jobs).where(*expected).values(changed).returning(_jobs.c.id, _jobs.c.last_event)
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    add(connection, row.id, row.last_event - len(events) + 1, events, now)
    return str(row.id)


def add(connection: Connection, job_id: str, first: int, events: Sequence[NewEvent], now: datetime) -> None:
    """Write events under the numbers from `first` on, and drop those that are too many."""
    rows = [
        {"job_id": job_id, "seq": seq, "at": now, "kind": event.kind, "data": dict(event.data)}
        for seq, event in enumerate(events, first)
    ]
    if rows:
        connection.execute(insert(_events), rows)
    for kind in {event.kind for event in events}:
        newest = {"job": job_id, "of_kind": kind, "newer": KEPT[kind] - 1}
        oldest = connection.execute(OLDEST_KEPT, newest).scalar_one_or_none()
        if oldest is not None:
            connection.execute(TRIM, {"job": job_id, "of_kind": kind, "oldest": oldest})


def after(connection: Connection, job_id: str, seq: int, limit: int) -> list[JobEvent]:
    """The events of a job that follow event `seq`, oldest first."""
    rows = connection.execute(AFTER, {"job": job_id, "after": seq, "most": limit})
    return [JobEvent(**row._mapping) for row in rows]
