"""Requests that are to be carried out once, whatever is sent again: whose turn it is, the answer to repeat.

A row goes from *in progress* to *done*, in the transaction that makes the change, to *answered*. A request
that is in progress holds its row by a lease: after a crash, the next attempt takes the row over, and whoever
has lost it can commit nothing any more. Rows are forgotten after a while. Knows no HTTP.
"""

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from service.store import tables
from service.store.caller import Caller, Once
from service.store.database import Database
from service.store.errors import (
    AnswerLostError,
    IdempotencyKeyReusedError,
    RequestInProgressError,
    RequestTakenOverError,
)

IN_PROGRESS, DONE, ANSWERED = "in_progress", "done", "answered"
MOST_FORGOTTEN = 16  # expired rows that each new one takes with it, so that they never pile up

_requests = tables.idempotent_requests

_of_key = (_requests.c.tenant == bindparam("of")) & (_requests.c.key == bindparam("named"))
_mine = _of_key & (_requests.c.token == bindparam("held"))
# PostgreSQL: two attempts at once look one after the other.
LOOK = select(_requests).where(_of_key).with_for_update()
SETTLE = update(_requests).where(_mine, _requests.c.state != ANSWERED)
RENEW = update(_requests).where(_mine, _requests.c.state == IN_PROGRESS)
FINISH = update(_requests).where(_mine)
RELEASE = delete(_requests).where(_mine, _requests.c.state == IN_PROGRESS)
TAKE = update(_requests).where(_of_key)
EXPIRED = (
    select(_requests.c.tenant, _requests.c.key)
    .where(_requests.c.expires_at < bindparam("now", type_=_requests.c.expires_at.type))
    .order_by(_requests.c.expires_at)
    .limit(MOST_FORGOTTEN)
    .with_for_update(skip_locked=True)
)
FORGET = delete(_requests).where(_of_key)
WITH_ANSWER = select(_requests.c.tenant, _requests.c.key, _requests.c.body).where(
    _requests.c.state == ANSWERED
)


@dataclass(frozen=True)
class KeptAnswer:
    """An answer as it was given: HTTP status, the headers that tell of its body, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Idempotency:
    """The requests with a key of one tenant; safe to share between threads."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database = database
        self._caller = caller

    def claim(self, key: str, fingerprint: str, *, lease_s: float, keep_s: float) -> Once | KeptAnswer:
        """Take a key for a request, or the answer that this request was given before.

        Parameters
        ----------
        fingerprint : sha256 of all that makes the request what it is.
        lease_s : for how long the key is this attempt's unless it renews, in seconds.
        keep_s : for how long the row is kept, in seconds.

        Raises
        ------
        IdempotencyKeyReusedError
            The key was used for another request.
        RequestInProgressError
            Another attempt at this request is at work.
        AnswerLostError
            It was carried out by a process that ended before it had written its answer down.
        """
        now = datetime.now(UTC)
        once = Once(key, uuid.uuid4().hex)
        row = {
            "tenant": self._caller.tenant,
            "key": key,
            "fingerprint": fingerprint,
            "token": once.token,
            "state": IN_PROGRESS,
            "lease_until": now + timedelta(seconds=lease_s),
            "created_at": now,
            "expires_at": now + timedelta(seconds=keep_s),
        }
        with self._database.write(durable=False) as connection:
            self._forget_expired(connection, now)
            connection.execute(self._database.insert_or_ignore(_requests), row)
            there = connection.execute(LOOK, self._named(key)).one()
            if there.token == once.token:
                return once
            if there.expires_at >= now:
                if there.fingerprint != fingerprint:
                    raise IdempotencyKeyReusedError(key)
                if there.state == ANSWERED:
                    return KeptAnswer(there.status, there.headers, bytes(there.body))
                if there.state == DONE and there.lease_until < now:
                    raise AnswerLostError(key, there.detail)
                if there.lease_until >= now:
                    raise RequestInProgressError(key)
            connection.execute(TAKE.values({**_EMPTY, **row}), self._named(key))
        return once

    def renew(self, once: Once, lease_s: float) -> None:
        """Hold the key for another `lease_s` seconds; nothing if it is not this attempt's any more."""
        until = datetime.now(UTC) + timedelta(seconds=lease_s)
        with self._database.write(durable=False) as connection:
            connection.execute(RENEW.values(lease_until=until), self._held(once))

    def finish(self, once: Once, answer: KeptAnswer) -> None:
        """Keep the answer of a request that was carried out, to give it again."""
        values = {"state": ANSWERED, "status": answer.status, "headers": dict(answer.headers)}
        with self._database.write(durable=False) as connection:
            connection.execute(FINISH.values(**values, body=answer.body), self._held(once))

    def release(self, once: Once) -> None:
        """Let a request that changed nothing be made again, under the same key or with another body."""
        with self._database.write(durable=False) as connection:
            connection.execute(RELEASE, self._held(once))

    def _forget_expired(self, connection: Connection, now: datetime) -> None:
        rows = connection.execute(EXPIRED, {"now": now}).all()
        if rows:
            connection.execute(FORGET, [{"of": row.tenant, "named": row.key} for row in rows])

    def _named(self, key: str) -> dict[str, str]:
        return {"of": self._caller.tenant, "named": key}

    def _held(self, once: Once) -> dict[str, str]:
        return {**self._named(once.key), "held": once.token}


_EMPTY: Mapping[str, Any] = {"status": None, "headers": None, "body": None, "detail": None}


def lose_answers(connection: Connection, mentioned: Collection[bytes]) -> int:
    """Delete the kept answers, of all tenants, in which one of these is mentioned; how many.

    Their requests stay settled: sent again, they are told that the answer was lost.
    """
    lost = [
        {"of": row.tenant, "named": row.key}
        for row in connection.execute(WITH_ANSWER)
        if any(what in bytes(row.body or b"") for what in mentioned)
    ]
    now = datetime.now(UTC)
    for named in lost:
        kept = {"state": DONE, "status": None, "headers": None, "body": None, "lease_until": now}
        connection.execute(TAKE.values(kept), named)
    return len(lost)


def settle(connection: Connection, caller: Caller, detail: Mapping[str, Any]) -> None:
    """Note, inside the transaction of a change, that the caller's request was carried out.

    Parameters
    ----------
    detail : what was done, as JSON, for the case that the answer is lost.

    Raises
    ------
    RequestTakenOverError
        Another attempt has the key by now; the transaction must be undone.
    """
    if caller.once is None:
        return
    held = {"of": caller.tenant, "named": caller.once.key, "held": caller.once.token}
    statement = SETTLE.values(state=DONE, detail=dict(detail))
    if connection.execute(statement, held).rowcount == 0:
        raise RequestTakenOverError(caller.once.key)
