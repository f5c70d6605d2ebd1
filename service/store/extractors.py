"""The rows of the extractors that were added while servers run. Knows no file and no network."""

from dataclasses import asdict

from sqlalchemy import Connection, bindparam, delete, insert, select
from sqlalchemy.exc import IntegrityError

from service.store import audit, tables
from service.store.caller import Caller
from service.store.database import Database
from service.store.errors import (
    ExtractorExistsError,
    ExtractorInUseError,
    ExtractorNotFoundError,
)
from service.store.records import ExtractorRow
from service.store.text import is_storable

MOST_SHOWN = 11  # heads that are named when an extractor is in use

_extractors = tables.extractors
_heads = tables.heads
_versions = tables.versions

_is_seen = _extractors.c.tenant.is_(None) | (_extractors.c.tenant == bindparam("tenant"))
ANY_NAMED = select(_extractors).where(_extractors.c.name == bindparam("wanted"))
NAMED = ANY_NAMED.where(_is_seen)
ANY_WITH_DIGEST = select(_extractors).where(_extractors.c.digest == bindparam("wanted"))
WITH_DIGEST = ANY_WITH_DIGEST.where(_is_seen)
ALL = select(_extractors).order_by(_extractors.c.name)
SEEN = ALL.where(_is_seen)
# PostgreSQL then lets nobody remove it before the commit.
HOLD = ANY_WITH_DIGEST.with_only_columns(_extractors.c.digest).with_for_update(read=True, key_share=True)
DELETE = delete(_extractors).where(_extractors.c.digest == bindparam("wanted"))
USERS = (
    select(_heads.c.name)
    .where(_heads.c.extractor_digest == bindparam("wanted"))
    .union(
        select(_heads.c.name)
        .join(_versions, _versions.c.head_id == _heads.c.id)
        .where(_versions.c.extractor_digest == bindparam("wanted"))
    )
    .limit(MOST_SHOWN)
)


class Extractors:
    """The registered extractors that a tenant sees: those for all, and its own.

    Safe to share between threads.
    """

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database = database
        self._caller = caller

    def named(self, name: str) -> ExtractorRow | None:
        """The extractor of a name, if one is registered."""
        if not is_storable(name):
            return None
        with self._database.single() as connection:
            row = connection.execute(NAMED, self._values(name)).one_or_none()
        return None if row is None else ExtractorRow(**row._mapping)

    def with_digest(self, digest: str) -> ExtractorRow | None:
        """The extractor of a digest, if it is registered."""
        with self._database.single() as connection:
            row = connection.execute(WITH_DIGEST, self._values(digest)).one_or_none()
        return None if row is None else ExtractorRow(**row._mapping)

    def list(self) -> tuple[ExtractorRow, ...]:
        """All of them, by name."""
        with self._database.single() as connection:
            rows = connection.execute(SEEN, {"tenant": self._caller.tenant})
            return tuple(ExtractorRow(**row._mapping) for row in rows)

    def of_all_tenants(self) -> tuple[ExtractorRow, ...]:
        """Those of every tenant too, by name: for whoever looks after the files."""
        with self._database.single() as connection:
            return tuple(ExtractorRow(**row._mapping) for row in connection.execute(ALL))

    def add(self, row: ExtractorRow) -> ExtractorRow:
        """Register an extractor; the row that is there already if it is.

        Raises
        ------
        ExtractorExistsError
            The name belongs to another extractor.
        """
        try:
            with self._database.write() as connection:
                connection.execute(insert(_extractors), asdict(row))
                audit.record(connection, self._caller, "extractor.add", row.name, {"digest": row.digest})
        except IntegrityError as error:
            there = self.with_digest(row.digest)
            if there is None:
                raise ExtractorExistsError(row.name) from error
            return there
        return row

    def remove(self, name: str) -> ExtractorRow:
        """Take an extractor of whatever tenant out of the registry; the row that it had.

        Its blobs and embeddings stay.

        Raises
        ------
        ExtractorNotFoundError
        ExtractorInUseError
            Heads or versions of heads refer to it.
        """
        with self._database.write() as connection:
            row = connection.execute(ANY_NAMED, {"wanted": name}).one_or_none() if is_storable(name) else None
            if row is None:
                raise ExtractorNotFoundError(name)
            # First: whoever is about to commit a head on it then has committed, or finds it gone.
            connection.execute(DELETE, {"wanted": row.digest})
            users = connection.execute(USERS, {"wanted": row.digest}).scalars().all()
            if users:
                raise ExtractorInUseError(name, sorted(users))
            audit.record(connection, self._caller, "extractor.remove", name, {"digest": row.digest})
        return ExtractorRow(**row._mapping)

    def _values(self, wanted: str) -> dict[str, str]:
        return {"wanted": wanted, "tenant": self._caller.tenant}


def hold(connection: Connection, digest: str, name: str) -> None:
    """See to it that an extractor is registered, in this transaction and until its end.

    Raises
    ------
    ExtractorNotFoundError
    """
    if connection.execute(HOLD, {"wanted": digest}).one_or_none() is None:
        raise ExtractorNotFoundError(name)
