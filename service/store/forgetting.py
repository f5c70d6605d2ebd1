"""Forgetting an input everywhere: the examples of all heads of all tenants, what they kept, every embedding.

One transaction; then the file of a SQLite database is written anew, so that no page and no log has it.
Knows neither memory nor head files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, delete, select, update

from service.store import audit, idempotency, inputs, sqlite_file, tables
from service.store.caller import LOCAL, Caller
from service.store.copies import is_file
from service.store.database import Database

_heads = tables.heads
_examples = tables.examples
_versions = tables.versions

_is_key: BindParameter[str] = bindparam("key")
HEADS = (
    select(_heads.c.id, _heads.c.tenant, _heads.c.name)
    .where(_heads.c.id.in_(select(_examples.c.head_id).where(_examples.c.sha256 == _is_key)))
    .order_by(_heads.c.id)
    .with_for_update()
)
SINCE = (
    select(_versions.c.number)
    .where(_versions.c.head_id == bindparam("head"), _versions.c.created_at >= bindparam("since"))
    .order_by(_versions.c.number)
)
OF_HEAD = select(_examples.c.id, _examples.c.source_id, _examples.c.created_at).where(
    _examples.c.head_id == bindparam("head"), _examples.c.sha256 == _is_key
)
DELETE_EXAMPLES = delete(_examples).where(
    _examples.c.head_id == bindparam("head"), _examples.c.sha256 == _is_key
)
ADVANCE = update(_heads).where(_heads.c.id == bindparam("head")).values(revision=_heads.c.revision + 1)
DELETE_EMBEDDINGS = delete(tables.embeddings).where(tables.embeddings.c.sha256 == _is_key)


@dataclass(frozen=True)
class Learned:
    """A head that had the input, and its versions since then: they may have learned from it."""

    tenant: str
    head: str
    head_id: int
    examples: int
    versions: tuple[int, ...]


@dataclass(frozen=True)
class Forgotten:
    """What was deleted of an input, of all tenants: embeddings, and answers kept for an `Idempotency-Key`."""

    heads: tuple[Learned, ...]
    embeddings: int
    answers: int


def forget(database: Database, sha256: str) -> Forgotten:
    """Delete every row about an input; its blobs are doomed. The audit log has counts only.

    Raises
    ------
    StoreUnavailableError
    """
    now = datetime.now(UTC)
    with database.write() as connection:
        rows = connection.execute(HEADS, {"key": sha256}).all()
        mentioned = {sha256}
        heads = tuple(_forget_in(connection, row, sha256, now, mentioned) for row in rows)
        embeddings = connection.execute(DELETE_EMBEDDINGS, {"key": sha256}).rowcount
        answers = idempotency.lose_answers(connection, [text.encode() for text in mentioned])
    return Forgotten(heads, embeddings, answers)


def delete_versions(database: Database, learned: Learned) -> tuple[int, ...]:
    """Delete those versions of a head that may have learned from the input; the numbers that are gone.

    A head whose published version is among them predicts nothing until it is trained.
    """
    wanted = {"head": learned.head_id, "numbers": list(learned.versions)}
    numbers = _versions.c.number.in_(bindparam("numbers", expanding=True))
    with database.write() as connection:
        published = _heads.c.published_version.in_(bindparam("numbers", expanding=True))
        unpublish = update(_heads).where(_heads.c.id == bindparam("head"), published)
        connection.execute(unpublish.values(published_version=None), wanted)
        connection.execute(delete(_versions).where(_versions.c.head_id == bindparam("head"), numbers), wanted)
        caller = Caller(learned.tenant, LOCAL)
        audit.record(connection, caller, "version.delete", learned.head, {"versions": list(learned.versions)})
    return learned.versions


def scrub(database: Database) -> None:
    """SQLite: write the file anew and empty its log, so that nothing of what was deleted is left in either.

    Writers wait meanwhile. Other databases are asked for that in their own way.

    Raises
    ------
    StoreUnavailableError
    """
    if is_file(database):
        with database.single() as connection:
            sqlite_file.rewrite(connection)
            sqlite_file.empty_log(connection)


def _forget_in(connection: Connection, row: Any, sha256: str, now: datetime, mentioned: set[str]) -> Learned:
    """Delete the input from a head; its example ids and names go to what is `mentioned`."""
    values: Mapping[str, Any] = {"head": row.id, "key": sha256}
    examples = connection.execute(OF_HEAD, values).all()
    mentioned.update(name for example in examples for name in (example.id, example.source_id) if name)
    since = min(example.created_at for example in examples)
    found = connection.execute(SINCE, {"head": row.id, "since": since}).scalars().all()
    connection.execute(DELETE_EXAMPLES, values)
    connection.execute(ADVANCE, {"head": row.id})
    inputs.doom_unused(connection, row.id, [sha256], now)
    audit.record(connection, Caller(row.tenant, LOCAL), "input.forget", row.name, {"removed": len(examples)})
    return Learned(row.tenant, row.name, row.id, len(examples), tuple(found))
