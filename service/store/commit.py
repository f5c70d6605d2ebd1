"""One change of a head, step by step, inside a transaction that the caller opened.

The first step takes the head: it inserts it, or moves it to the next revision if it is still at the
one the caller saw. On PostgreSQL that locks the row, so that the steps after it have the head for
themselves; on SQLite the whole transaction is alone anyway.
"""

import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from service.store import audit, embeddings, extractors, inputs, quotas, tables
from service.store.caller import Caller
from service.store.changes import Change, Committed, NewExample
from service.store.database import Database
from service.store.errors import DuplicateExampleError, ExampleNotFoundError, RevisionConflictError
from service.store.moves import by_all_extractors, move_examples
from service.store.records import SINGLE_LABEL, HeadRow
from service.store.text import require_storable
from service.store.versions import add_version
from training.errors import ExtractorMismatchError

_heads = tables.heads
_examples = tables.examples

_of_head = _examples.c.head_id == bindparam("head")
_id_in = _examples.c.id.in_(bindparam("ids", expanding=True))
KEYS = select(_examples.c.extractor_digest, _examples.c.sha256).where(_of_head)
KEYS_OF_IDS = select(_examples.c.id, _examples.c.extractor_digest, _examples.c.sha256).where(_of_head, _id_in)
EXISTING = select(_examples.c.id, _examples.c.sha256, _examples.c.label).where(
    _of_head, _examples.c.sha256.in_(bindparam("keys", expanding=True))
)
DELETE_ALL = delete(_examples).where(_of_head)
DELETE_IDS = delete(_examples).where(_of_head, _id_in)
RELABEL = (
    update(_examples).where(_of_head, _examples.c.id == bindparam("example")).values(label=bindparam("to"))
)


def check(change: Change) -> None:
    """Refuse what no database could hold, before a transaction is opened.

    Raises
    ------
    InvalidTextError
    """
    require_storable("name", [change.head, change.extractor_name])
    require_storable("label", [example.label for example in change.add])
    require_storable("label", change.relabel.values())
    require_storable("example id", [*change.remove, *change.relabel])
    require_storable("source id", [example.source_id for example in change.add if example.source_id])


def apply(connection: Connection, database: Database, caller: Caller, change: Change) -> Committed:
    """Write the change. The transaction must be undone if this raises."""
    now = datetime.now(UTC)
    limits = quotas.hold(connection, caller.tenant)
    if change.creates:
        head = _create(connection, caller, change, now)
    else:
        head = _advance(connection, caller, change, now)
    for digest, name in sorted(change.registered.items()):
        extractors.hold(connection, digest, name)
    dropped = _drop(connection, caller, head, change)
    renamed = _relabelled(connection, head, change)
    _refuse_duplicates(connection, head, change, renamed)
    _relabel(connection, head, change)
    if change.move:
        digest = change.extractor_digest
        move_examples(connection, database, caller, head.id, digest, change.embeddings)
    keys = [example.sha256 for example in change.add]
    space = embeddings.space(caller.tenant, change.extractor_digest)
    embeddings.ensure(connection, database, space, keys, change.embeddings)
    ids = _insert(connection, head, space, change.add, now)
    embeddings.forget(connection, dropped)
    doomed = _keep_inputs(connection, head, change, [sha256 for _, sha256 in dropped], now)
    if change.version is not None:
        add_version(connection, head, change.version, now)
    quotas.require(connection, caller.tenant, limits, change)
    audit.record(connection, caller, *_told(head, change))
    return Committed(head, head.last_version if change.version else None, ids, doomed)


def _create(connection: Connection, caller: Caller, change: Change, now: datetime) -> HeadRow:
    trained = 1 if change.version else 0
    values = {
        "tenant": caller.tenant,
        "name": change.head,
        "extractor_name": change.extractor_name,
        "extractor_digest": change.extractor_digest,
        "task": change.task or SINGLE_LABEL,
        "keep_inputs": bool(change.keep_inputs),
        "revision": 1,
        "published_version": trained if change.version and change.version.publish else None,
        "last_version": trained,
        "created_at": now,
        "updated_at": now,
    }
    try:
        row = connection.execute(insert(_heads).returning(_heads), values).one()
    except IntegrityError as error:
        raise RevisionConflictError(f"the head {change.head!r} exists already") from error
    return HeadRow(**row._mapping)


def _advance(connection: Connection, caller: Caller, change: Change, now: datetime) -> HeadRow:
    """Move the head to its next revision, with its next version if the change has one."""
    values: dict[str, Any] = {"revision": _heads.c.revision + 1, "updated_at": now}
    if change.replace_all or change.move:
        values |= {"extractor_name": change.extractor_name, "extractor_digest": change.extractor_digest}
    if change.task is not None:
        values["task"] = change.task
    if change.keep_inputs is not None:
        values["keep_inputs"] = change.keep_inputs
    if change.version is not None:
        values["last_version"] = _heads.c.last_version + 1
        if change.version.publish:
            values["published_version"] = _heads.c.last_version + 1
    expected = (
        _heads.c.id == change.head_id,
        _heads.c.tenant == caller.tenant,
        _heads.c.name == change.head,
        _heads.c.revision == change.expected_revision,
    )
    row = connection.execute(update(_heads).where(*expected).values(values).returning(_heads)).one_or_none()
    if row is None:
        raise RevisionConflictError(
            f"the head {change.head!r} was changed or deleted since revision {change.expected_revision}"
        )
    if row.extractor_digest != change.extractor_digest:
        raise ExtractorMismatchError(
            f"the head {change.head!r} is of the extractor {row.extractor_name} ({row.extractor_digest}), "
            f"the change of {change.extractor_name} ({change.extractor_digest})"
        )
    return HeadRow(**row._mapping)


def _told(head: HeadRow, change: Change) -> tuple[str, str, dict[str, Any]]:
    """Action, target and detail of the change for the audit log."""
    counts = {"added": len(change.add), "removed": len(change.remove), "relabelled": len(change.relabel)}
    detail: dict[str, Any] = {key: count for key, count in counts.items() if count}
    if change.version is not None:
        detail |= {"version": head.last_version, "published": change.version.publish}
    if change.move:
        detail["extractor"] = change.extractor_name
    if change.creates:
        return "head.create", head.name, detail
    return ("head.replace" if change.replace_all else "head.change"), head.name, detail


def _drop(connection: Connection, caller: Caller, head: HeadRow, change: Change) -> list[embeddings.Key]:
    """Delete what the change replaces or removes; the keys of their embeddings."""
    return by_all_extractors(connection, caller, head.id, _deleted(connection, head, change))


def _deleted(connection: Connection, head: HeadRow, change: Change) -> list[embeddings.Key]:
    if change.replace_all and not change.creates:
        keys = [(row.extractor_digest, row.sha256) for row in connection.execute(KEYS, {"head": head.id})]
        connection.execute(DELETE_ALL, {"head": head.id})
        return keys
    ids_to_remove = list(dict.fromkeys(change.remove))
    return [key for ids in embeddings.chunks(ids_to_remove) for key in _remove(connection, head, ids)]


def _remove(connection: Connection, head: HeadRow, ids: Sequence[str]) -> list[embeddings.Key]:
    found = _find(connection, head, ids)
    connection.execute(DELETE_IDS, {"head": head.id, "ids": ids})
    return list(found.values())


def _keep_inputs(
    connection: Connection, head: HeadRow, change: Change, dropped: Sequence[str], now: datetime
) -> int:
    """Keep the inputs of new examples, doom those of dropped ones; how many were doomed."""
    if change.replace_all and not change.creates:
        doomed = inputs.doom_all(connection, head.id, now)
    else:
        doomed = inputs.doom_unused(connection, head.id, dropped, now)
    return doomed + inputs.keep(connection, head.id, change.inputs, now)


def _relabelled(connection: Connection, head: HeadRow, change: Change) -> list[str]:
    """The sha256 of the inputs whose labels the change replaces."""
    found = [_find(connection, head, ids) for ids in embeddings.chunks(list(change.relabel))]
    return [sha256 for keys in found for _, sha256 in keys.values()]


def _relabel(connection: Connection, head: HeadRow, change: Change) -> None:
    rows = [{"head": head.id, "example": key, "to": label} for key, label in change.relabel.items()]
    if rows:
        connection.execute(RELABEL, rows)


def _find(connection: Connection, head: HeadRow, ids: Sequence[str]) -> dict[str, embeddings.Key]:
    """The embedding key of each example of the head.

    Raises
    ------
    ExampleNotFoundError
    """
    rows = connection.execute(KEYS_OF_IDS, {"head": head.id, "ids": ids})
    found = {row.id: (row.extractor_digest, row.sha256) for row in rows}
    missing = [example_id for example_id in ids if example_id not in found]
    if missing:
        raise ExampleNotFoundError(head.name, missing)
    return found


def _refuse_duplicates(connection: Connection, head: HeadRow, change: Change, renamed: Sequence[str]) -> None:
    """See to it that an input has one label in a single-label head, and each label once in any.

    Raises
    ------
    DuplicateExampleError
    """
    there: dict[tuple[str, ...], str | None] = {}
    twice: dict[str, str | None] = {}
    for example_id, key, label in _touched(connection, head, change, renamed):
        place = (key,) if head.task == SINGLE_LABEL else (key, label)
        if place in there:
            twice.setdefault(key, there[place])
        there.setdefault(place, example_id)
    if twice:
        raise DuplicateExampleError(head.name, twice)


def _touched(
    connection: Connection, head: HeadRow, change: Change, renamed: Sequence[str]
) -> Iterator[tuple[str | None, str, str]]:
    """Id, input and label of all examples, as they will be, of the inputs that are added or relabelled."""
    added = {example.sha256: None for example in change.add}
    for keys in embeddings.chunks(list(added | dict.fromkeys(renamed))):
        for row in connection.execute(EXISTING, {"head": head.id, "keys": keys}):
            yield row.id, row.sha256, change.relabel.get(row.id, row.label)
    for example in change.add:
        yield None, example.sha256, example.label


def _insert(
    connection: Connection, head: HeadRow, space: str, added: Sequence[NewExample], now: datetime
) -> tuple[str, ...]:
    rows = [
        {
            "id": uuid.uuid4().hex,
            "head_id": head.id,
            "extractor_digest": space,
            "sha256": example.sha256,
            "label": example.label,
            "source_id": example.source_id,
            "size_bytes": example.size_bytes,
            "created_at": now,
        }
        for example in added
    ]
    if rows:
        connection.execute(insert(_examples), rows)
    return tuple(str(row["id"]) for row in rows)
