"""The heads: look up, list, delete, and the one way to change them. Knows no training."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, select

from service.store import audit, commit, embeddings, inputs, named, tables
from service.store.caller import Caller
from service.store.changes import Change, Committed
from service.store.database import Database
from service.store.errors import HeadNotFoundError, unpublished
from service.store.inputs import Inputs
from service.store.moves import by_all_extractors
from service.store.paging import page_of, page_size
from service.store.records import HeadRow, HeadSummary, Page, Published, VersionSummary
from service.store.served import Served, served_query
from service.store.text import is_storable, require_storable

_heads = tables.heads
_versions = tables.versions
_examples = tables.examples

_is_published = (_versions.c.head_id == _heads.c.id) & (_versions.c.number == _heads.c.published_version)

GET = select(_heads).where(named.NAMED)
PUBLISHED = (
    select(
        _heads.c.id,
        _versions.c.number,
        _versions.c.extractor_name,
        _versions.c.extractor_digest,
        _heads.c.revision,
    )
    .select_from(_heads.outerjoin(_versions, _is_published))
    .where(named.NAMED)
)
VERSION_COLUMNS = (
    _versions.c.head_id,
    _versions.c.number,
    _versions.c.created_at,
    _versions.c.extractor_name,
    _versions.c.extractor_digest,
    _versions.c.revision,
    _versions.c.parent_version,
    _versions.c.examples_total,
    _versions.c.classes,
)
FIRST = select(_heads).where(named.OF_TENANT).order_by(_heads.c.name).limit(bindparam("most"))
NEXT = FIRST.where(_heads.c.name > bindparam("after"))
PUBLISHED_OF = (
    select(*VERSION_COLUMNS)
    .join(_heads, _is_published)
    .where(_heads.c.id.in_(bindparam("ids", expanding=True)))
)
LABEL_COUNTS = (
    select(_examples.c.head_id, _examples.c.label, func.count())
    .where(_examples.c.head_id.in_(bindparam("ids", expanding=True)))
    .group_by(_examples.c.head_id, _examples.c.label)
    .order_by(_examples.c.head_id, _examples.c.label)
)
KEYS = select(_examples.c.extractor_digest, _examples.c.sha256).where(
    _examples.c.head_id == bindparam("head")
)
DELETE = delete(_heads).where(_heads.c.id == bindparam("head"))


class Heads:
    """The heads of a tenant; safe to share between threads."""

    def __init__(self, database: Database, inputs: Inputs, caller: Caller) -> None:
        self._database = database
        self._inputs = inputs
        self._caller = caller

    def get(self, name: str) -> HeadRow:
        """The head as it is now.

        Raises
        ------
        HeadNotFoundError
        """
        with self._database.single() as connection:
            row = connection.execute(GET, self._key(name)).one_or_none() if is_storable(name) else None
        if row is None:
            raise HeadNotFoundError(name)
        return HeadRow(**row._mapping)

    def find(self, name: str) -> HeadRow | None:
        """The head as it is now, if there is one."""
        try:
            return self.get(name)
        except HeadNotFoundError:
            return None

    def summary(self, name: str) -> HeadSummary:
        """The head with its examples counted by label and its published version.

        Raises
        ------
        HeadNotFoundError
        """
        with self._database.snapshot() as connection:
            rows = connection.execute(GET, self._key(name)).all() if is_storable(name) else []
            summaries = _summaries(connection, rows)
        if not summaries:
            raise HeadNotFoundError(name)
        return summaries[0]

    def list(self, after: str | None = None, limit: int = 100) -> Page[HeadSummary, str]:
        """The heads by name, in the order of their code points, in three queries whatever the limit.

        Parameters
        ----------
        after : name of the last head seen; it need not exist any more.

        Raises
        ------
        InvalidTextError
            `after` can be no name.
        """
        values: dict[str, Any] = {"tenant": self._caller.tenant, "most": page_size(limit) + 1}
        if after is not None:
            require_storable("cursor", [after])
            values["after"] = after
        with self._database.snapshot() as connection:
            rows = connection.execute(FIRST if after is None else NEXT, values).all()
            summaries = _summaries(connection, rows[:limit])
        names = page_of(rows, limit, lambda row: str(row.name))
        return Page(tuple(summaries), names.next_after)

    def published(self, name: str) -> Published:
        """The version that predicts now: one indexed query, cheap enough for every prediction.

        Raises
        ------
        HeadNotFoundError, VersionNotFoundError
            There is no such head, or it has no published version.
        """
        rows = self._database.quick(PUBLISHED, self._key(name)) if is_storable(name) else ()
        if not rows:
            raise HeadNotFoundError(name)
        if rows[0][1] is None:
            raise unpublished(name)
        return Published(*rows[0])

    def served(self, names: Sequence[str], prefixes: Sequence[str] = (), most: int = 1000) -> Served:
        """Heads with these names, and published ones whose names begin so, in one query that sees one state.

        Parameters
        ----------
        prefixes : the empty one is of every head.
        most : how many heads are read at most; the last by name are left out.
        """
        known = [name for name in names if is_storable(name)]
        begins = [prefix for prefix in prefixes if is_storable(prefix)]
        statement, values = served_query(self._database, self._caller, known, begins, most)
        with self._database.single() as connection:
            return Served(connection.execute(statement, values).scalar_one())

    def commit(self, change: Change) -> Committed:
        """Do everything of one write in one transaction.

        When it returns, the change survives a killed process and a power loss, and every process sees it.
        When it raises, nothing was written.

        Raises
        ------
        RevisionConflictError
            The head was changed or deleted since it was read, or it exists and was to be created.
        ExampleNotFoundError, DuplicateExampleError, EmbeddingNotFoundError, InvalidTextError
            The change does not fit the head.
        ExtractorMismatchError
            The change is of another extractor and does not replace all examples.
        StoreUnavailableError
            The database is locked, full or not reachable; the same change may be tried again.
        """
        commit.check(change)
        with self._database.write() as connection:
            committed = commit.apply(connection, self._database, self._caller, change)
        if committed.doomed:
            self._inputs.purge()
        return committed

    def delete(self, name: str) -> None:
        """Forget a head: its examples, versions and files, the inputs it keeps, and the embeddings no other
        head refers to.

        Raises
        ------
        HeadNotFoundError
        """
        with self._database.write() as connection:
            head_id = named.head_id(connection, self._caller, name, lock=True)
            rows = connection.execute(KEYS, {"head": head_id}).all()
            own = [(row[0], row[1]) for row in rows]
            keys = by_all_extractors(connection, self._caller, head_id, own)
            doomed = inputs.doom_all(connection, head_id, datetime.now(UTC))
            connection.execute(DELETE, {"head": head_id})
            embeddings.forget(connection, keys)
            audit.record(connection, self._caller, "head.delete", name)
        if doomed:
            self._inputs.purge()

    def _key(self, name: str) -> dict[str, str]:
        return named.key_of(self._caller, name)


def _summaries(connection: Connection, rows: Sequence[Row[Any]]) -> list[HeadSummary]:
    ids = {"ids": [row.id for row in rows]}
    if not rows:
        return []
    counts: dict[int, dict[str, int]] = {}
    for head_id, label, count in connection.execute(LABEL_COUNTS, ids):
        counts.setdefault(head_id, {})[label] = count
    published: dict[int, VersionSummary] = {}
    for row in connection.execute(PUBLISHED_OF, ids):
        published[row.head_id] = VersionSummary(**{**row._mapping, "classes": tuple(row.classes)})
    return [
        HeadSummary(HeadRow(**row._mapping), counts.get(row.id, {}), published.get(row.id)) for row in rows
    ]
