"""The versions of heads and their files: immutable, one of them published. Knows no training."""

import hashlib
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, tuple_, update

from service.store import audit, named, tables
from service.store.caller import Caller
from service.store.changes import NewVersion
from service.store.database import Database
from service.store.errors import HeadNotFoundError, StoreCorruptedError, VersionNotFoundError
from service.store.moves import move_examples
from service.store.paging import page_of, page_size
from service.store.records import HeadRow, Page, VersionRow
from service.store.text import is_storable

LARGEST_NUMBER = 2**31 - 1  # of an SQL integer
VERSIONS_PER_QUERY = 400  # each two variables

_heads = tables.heads
_versions = tables.versions
_files = tables.head_files

ROWS = (
    select(_versions, _files.c.sha256, _files.c.size_bytes)
    .join(_files, (_files.c.head_id == _versions.c.head_id) & (_files.c.number == _versions.c.number))
    .join(_heads, _heads.c.id == _versions.c.head_id)
    .where(named.NAMED)
)
ONE = ROWS.where(_versions.c.number == bindparam("wanted"))
NEWEST = (
    ROWS.where(_versions.c.number < bindparam("before"))
    .order_by(_versions.c.number.desc())
    .limit(bindparam("most"))
)
NEWEST_ON = (
    select(_versions, _files.c.sha256, _files.c.size_bytes)
    .join(_files, (_files.c.head_id == _versions.c.head_id) & (_files.c.number == _versions.c.number))
    .where(
        _versions.c.head_id == bindparam("head"),
        _versions.c.extractor_digest == bindparam("extractor"),
    )
    .order_by(_versions.c.number.desc())
    .limit(1)
)
FILE = select(_files.c.data, _files.c.sha256).where(
    _files.c.head_id == bindparam("head"), _files.c.number == bindparam("wanted")
)
FILES = select(_files.c.head_id, _files.c.number, _files.c.data, _files.c.sha256).where(
    tuple_(_files.c.head_id, _files.c.number).in_(bindparam("wanted", expanding=True))
)
EXISTING = select(_versions.c.head_id, _versions.c.number).where(
    tuple_(_versions.c.head_id, _versions.c.number).in_(bindparam("wanted", expanding=True))
)
LOCK_HEAD = select(_heads.c.id, _heads.c.extractor_digest).where(named.NAMED).with_for_update()
EXTRACTOR = select(_versions.c.extractor_name, _versions.c.extractor_digest).where(
    _versions.c.head_id == bindparam("head"), _versions.c.number == bindparam("wanted")
)
PUBLISH = update(_heads).where(_heads.c.id == bindparam("head")).returning(_heads)
EXAMPLES_TOTAL = (
    select(func.count()).select_from(tables.examples).where(tables.examples.c.head_id == bindparam("head"))
)


class Versions:
    """The versions of the heads of a tenant; safe to share between threads."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database = database
        self._caller = caller

    def list(self, head: str, after: int | None = None, limit: int = 100) -> Page[VersionRow, int]:
        """The versions of a head, newest first.

        Parameters
        ----------
        after : the number of the last version seen; the page starts with the one before it.

        Raises
        ------
        HeadNotFoundError
        """
        before = LARGEST_NUMBER if after is None else max(0, min(after, LARGEST_NUMBER))
        with self._database.snapshot() as connection:
            named.head_id(connection, self._caller, head)
            values = {**self._key(head), "before": before, "most": page_size(limit) + 1}
            rows = connection.execute(NEWEST, values).all()
        return page_of([_version_row(row) for row in rows], limit, lambda version: version.number)

    def get(self, head: str, number: int) -> VersionRow:
        """One version of a head.

        Raises
        ------
        HeadNotFoundError, VersionNotFoundError
        """
        with self._database.snapshot() as connection:
            named.head_id(connection, self._caller, head)
            row = None
            if 0 < number <= LARGEST_NUMBER:
                row = connection.execute(ONE, {**self._key(head), "wanted": number}).one_or_none()
        if row is None:
            raise _no_version(head, number)
        return _version_row(row)

    def newest(self, head_id: int, extractor_digest: str) -> VersionRow | None:
        """The newest version of a head that is of an extractor; None if there is none, or no such head."""
        with self._database.single() as connection:
            row = connection.execute(
                NEWEST_ON, {"head": head_id, "extractor": extractor_digest}
            ).one_or_none()
        return None if row is None else _version_row(row)

    def file(self, head_id: int, number: int) -> bytes:
        """The head file of a version, as it was committed.

        Raises
        ------
        VersionNotFoundError
            There is none, or its head was deleted.
        StoreCorruptedError
            The bytes are not those that were written.
        """
        with self._database.single() as connection:
            row = connection.execute(FILE, {"head": head_id, "wanted": number}).one_or_none()
        if row is None:
            raise _no_version(head_id, number)
        return _intact(row, head_id, number)

    def files(self, wanted: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        """The head files of versions, by head id and number, in one query; those that are gone are left out.

        Raises
        ------
        StoreCorruptedError
        """
        with self._database.single() as connection:
            rows = connection.execute(FILES, {"wanted": list(wanted)}).all()
        return {(row.head_id, row.number): _intact(row, row.head_id, row.number) for row in rows}

    def existing(self, wanted: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
        """Those of some versions, by head id and number, that are there; of whatever tenant."""
        asked = sorted(wanted)
        found: set[tuple[int, int]] = set()
        with self._database.single() as connection:
            for start in range(0, len(asked), VERSIONS_PER_QUERY):
                rows = connection.execute(EXISTING, {"wanted": asked[start : start + VERSIONS_PER_QUERY]})
                found.update((row.head_id, row.number) for row in rows)
        return found

    def publish(self, head: str, number: int) -> HeadRow:
        """Make a version the one that predicts: forward or back, at once and for every process.

        A version of another extractor than the head's takes the support set to that extractor: it is a new
        revision of the head. Otherwise the revision stays, so that a training under way is not thrown out.

        Raises
        ------
        HeadNotFoundError, VersionNotFoundError
        EmbeddingNotFoundError
            The version is of another extractor, by which not all examples of the head have an embedding.
        """
        with self._database.write() as connection:
            known = is_storable(head)
            found = connection.execute(LOCK_HEAD, self._key(head)).one_or_none() if known else None
            if found is None:
                raise HeadNotFoundError(head)
            key = {"head": found.id, "wanted": number}
            known = 0 < number <= LARGEST_NUMBER
            version = connection.execute(EXTRACTOR, key).one_or_none() if known else None
            if version is None:
                raise _no_version(head, number)
            values: dict[str, Any] = {"published_version": number, "updated_at": datetime.now(UTC)}
            if version.extractor_digest != found.extractor_digest:
                digest = version.extractor_digest
                move_examples(connection, self._database, self._caller, found.id, digest, {})
                values |= {**version._mapping, "revision": _heads.c.revision + 1}
            row = connection.execute(PUBLISH.values(values), {"head": found.id}).one()
            audit.record(connection, self._caller, "version.publish", head, {"version": number})
        return HeadRow(**row._mapping)

    def _key(self, head: str) -> dict[str, str]:
        return named.key_of(self._caller, head)


def add_version(connection: Connection, head: HeadRow, version: NewVersion, now: datetime) -> None:
    """Write the head's newest version, number `head.last_version`, and its file."""
    key = {"head_id": head.id, "number": head.last_version}
    name, digest = version.extractor or (head.extractor_name, head.extractor_digest)
    total = version.examples_total
    if total is None:
        total = connection.execute(EXAMPLES_TOTAL, {"head": head.id}).scalar_one()
    connection.execute(
        insert(_versions),
        {
            **key,
            "created_at": now,
            "extractor_name": name,
            "extractor_digest": digest,
            "revision": head.revision,
            "parent_version": version.parent_version,
            "examples_total": total,
            "classes": list(version.classes),
            "options": dict(version.options),
            "report": dict(version.report),
            "warnings": list(version.warnings),
        },
    )
    sha256 = hashlib.sha256(version.file).hexdigest()
    connection.execute(
        insert(_files), {**key, "sha256": sha256, "size_bytes": len(version.file), "data": version.file}
    )


def _intact(row: Any, head_id: int, number: int) -> bytes:
    data = bytes(row.data)
    if hashlib.sha256(data).hexdigest() != row.sha256:
        raise StoreCorruptedError(f"the file of version {number} of head {head_id} is damaged")
    return data


def _version_row(row: Row[Any]) -> VersionRow:
    fields = dict(row._mapping)
    fields["file_sha256"] = fields.pop("sha256")
    fields["file_bytes"] = fields.pop("size_bytes")
    fields["classes"] = tuple(fields["classes"])
    fields["warnings"] = tuple(fields["warnings"])
    return VersionRow(**fields)


def _no_version(head: str | int, number: int) -> VersionNotFoundError:
    return VersionNotFoundError(f"the head {head!r} has no version {number}")
