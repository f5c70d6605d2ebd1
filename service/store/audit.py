"""The audit log: who changed what and when, written in the transaction that makes the change.

What was refused has no transaction, and is written right after. Events hold names, numbers and counts: no
secret, no label, no input. Knows no HTTP.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select

from service.store import idempotency, tables
from service.store.access_records import AuditEvent
from service.store.caller import Caller
from service.store.database import Database
from service.store.paging import page_of, page_size
from service.store.records import Page

DONE = "ok"
LARGEST_SEQ = 2**63 - 1

_events = tables.audit_events

NEWEST = (
    select(_events)
    .where(_events.c.seq < bindparam("before"))
    .order_by(_events.c.seq.desc())
    .limit(bindparam("most"))
)
NEWEST_OF = NEWEST.where(_events.c.tenant == bindparam("tenant"))


class Audit:
    """The audit log as one caller reads and adds to it; safe to share between threads."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database = database
        self._caller = caller

    def refused(self, action: str, target: str | None, outcome: str) -> None:
        """Write down what the caller asked for and did not get.

        Parameters
        ----------
        outcome : code of the error.
        """
        with self._database.write(durable=False) as connection:
            record(connection, self._caller, action, target, outcome=outcome)

    def list(
        self, after: int | None = None, limit: int = 100, *, all_tenants: bool = False
    ) -> Page[AuditEvent, int]:
        """The events of the caller's tenant, newest first, or those of all tenants.

        Parameters
        ----------
        after : `seq` of the last event seen; the page starts with the one before it.
        """
        before = LARGEST_SEQ if after is None else max(0, min(after, LARGEST_SEQ))
        values: dict[str, Any] = {"before": before, "most": page_size(limit) + 1}
        statement = NEWEST
        if not all_tenants:
            statement = NEWEST_OF
            values["tenant"] = self._caller.tenant
        with self._database.single() as connection:
            rows = [AuditEvent(**row._mapping) for row in connection.execute(statement, values)]
        return page_of(rows, limit, lambda event: event.seq)

    def forget(self, older_than: timedelta) -> int:
        """Delete the events, of all tenants, that are older; how many there were."""
        before = datetime.now(UTC) - older_than
        with self._database.write() as connection:
            return connection.execute(delete(_events).where(_events.c.at < before)).rowcount


def record(
    connection: Connection,
    caller: Caller,
    action: str,
    target: str | None,
    detail: Mapping[str, Any] | None = None,
    *,
    outcome: str = DONE,
) -> None:
    """Write an event inside the transaction of what it tells; `detail` must be JSON.

    What was done is also noted with the caller's `Idempotency-Key`, if the request has one.

    Raises
    ------
    RequestTakenOverError
        The transaction must be undone.
    """
    if outcome == DONE:
        idempotency.settle(connection, caller, {"action": action, "target": target, **(detail or {})})
    values = {
        "at": datetime.now(UTC),
        "tenant": caller.tenant,
        "actor": caller.actor[: tables.ACTOR_LENGTH],
        "request_id": caller.request_id,
        "action": action,
        "target": target,
        "outcome": outcome,
        "detail": dict(detail or {}),
    }
    connection.execute(insert(_events), values)
