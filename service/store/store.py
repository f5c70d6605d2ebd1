"""The store: everything that is remembered, rows and blobs, behind one object. Knows no HTTP, no training."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import TracebackType

from sqlalchemy import select

from service.store import copies, forgetting, schema
from service.store.audit import Audit
from service.store.blobs import BlobStore
from service.store.caller import Caller
from service.store.claims import Claims
from service.store.database import BUSY_TIMEOUT_S, Database
from service.store.embeddings import Embeddings
from service.store.examples import Examples
from service.store.extractors import Extractors
from service.store.heads import Heads
from service.store.idempotency import Idempotency
from service.store.inputs import Inputs
from service.store.jobs import Jobs
from service.store.keys import Keys
from service.store.overview import Overview
from service.store.tenants import Tenants
from service.store.versions import Versions


class Store:
    """Heads, examples, versions, embeddings, jobs: one database, and blobs. Safe to share between threads.

    Several processes open the same ones; what one has committed, all see at their next call. A store is
    opened for a caller: it sees the heads, examples, versions, jobs, embeddings and extractors of one tenant
    only, and what it changes is written down as that caller's. `claims`, `keys`, `tenants`, `inputs`
    and `overview` are of all tenants. Each part is made when it is first asked for, as every request has a
    store.
    """

    def __init__(self, database: Database, blobs: BlobStore, caller: Caller | None = None) -> None:
        self.caller = caller or Caller()
        self.blobs = blobs
        self._database = database

    def of(self, caller: Caller) -> "Store":
        """The same store for another caller; closing either closes both."""
        return Store(self._database, self.blobs, caller)

    @cached_property
    def inputs(self) -> Inputs:
        return Inputs(self._database, self.blobs)

    @cached_property
    def heads(self) -> Heads:
        return Heads(self._database, self.inputs, self.caller)

    @cached_property
    def examples(self) -> Examples:
        return Examples(self._database, self.caller)

    @cached_property
    def versions(self) -> Versions:
        return Versions(self._database, self.caller)

    @cached_property
    def embeddings(self) -> Embeddings:
        return Embeddings(self._database, self.caller)

    @cached_property
    def extractors(self) -> Extractors:
        return Extractors(self._database, self.caller)

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(self._database, self.caller)

    @cached_property
    def claims(self) -> Claims:
        return Claims(self._database)

    @cached_property
    def audit(self) -> Audit:
        return Audit(self._database, self.caller)

    @cached_property
    def idempotency(self) -> Idempotency:
        return Idempotency(self._database, self.caller)

    @cached_property
    def keys(self) -> Keys:
        return Keys(self._database, self.caller)

    @cached_property
    def tenants(self) -> Tenants:
        return Tenants(self._database, self.caller)

    @cached_property
    def overview(self) -> Overview:
        return Overview(self._database)

    @classmethod
    def open(cls, database_url: str, blob_url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> "Store":
        """A store on a database that need not exist yet; `migrate` makes its tables.

        Parameters
        ----------
        database_url : `sqlite:////folder/headstart.db` (the folder is made) or `postgresql://...`.
        blob_url : path of a folder (made when it is needed) or an fsspec URL, see `BlobStore.open`.
        busy_timeout_s : how long a call waits for other writers before it gives up.

        Raises
        ------
        DatabaseUrlError, BlobUrlError
            A URL names nothing that can be used.
        StoreUnavailableError
            The folder cannot be made or written to.
        """
        return cls(Database(database_url, busy_timeout_s), BlobStore.open(blob_url))

    @property
    def folder(self) -> Path | None:
        """Where the file of a SQLite database is; None for a database that a server keeps."""
        return self._database.folder

    def migrate(self) -> None:
        """Make the tables, or bring them up to date. Any number of processes may do so at once.

        Raises
        ------
        SchemaError
            The database is of a newer version of Headstart.
        StoreUnavailableError
        """
        schema.migrate(self._database)

    @property
    def reads_at_once(self) -> bool:
        """Whether the reads of every prediction take microseconds and wait for no network and no writer."""
        return self._database.reads_at_once

    def check(self) -> None:
        """See whether the store can be used now: for readiness.

        Raises
        ------
        SchemaError
            The tables are missing, older or newer than this code.
        StoreUnavailableError
        """
        self._database.require_same()
        with self._database.snapshot() as connection:
            connection.execute(select(1))
            schema.check(connection)

    def forget(self, sha256: str) -> forgetting.Forgotten:
        """Delete every row about an input, of all tenants, and its blobs. `scrub` then empties the pages.

        Raises
        ------
        StoreUnavailableError
        """
        forgotten = forgetting.forget(self._database, sha256)
        self.inputs.purge()
        return forgotten

    def delete_versions(self, learned: forgetting.Learned) -> None:
        """Delete the versions of a head that may have learned from a forgotten input."""
        forgetting.delete_versions(self._database, learned)

    def scrub(self) -> None:
        """Leave nothing of deleted rows in the file of a SQLite database or in its log.

        Raises
        ------
        StoreUnavailableError
        """
        forgetting.scrub(self._database)

    def write_copy(self, path: Path) -> str:
        """All rows, as they are at one moment, as a SQLite file that is not there yet; its schema.

        Others go on to read and write. The blobs that the rows name are not in it.

        Raises
        ------
        SchemaError, StoreUnavailableError
        """
        return copies.write_copy(self._database, path)

    def read_copy(self, path: Path, *, replace: bool, before: Callable[[], None]) -> None:
        """Take the rows of a copy instead of those that are there: all of them, or none.

        Parameters
        ----------
        path : a copy at the schema of this code; where the database is a file it takes the place of that, so
            that it must be on the same file system.
        replace : whether what the database has may go.
        before : called once nothing stands in the way, before the first row is there.

        Raises
        ------
        HomeNotEmptyError
            There is something to lose.
        HomeInUseError, StoreUnavailableError
            Others use the database, or it cannot be written to.
        """
        copies.read_copy(self._database, path, replace=replace, before=before)

    def close(self) -> None:
        """Close all connections; later calls raise StoreUnavailableError."""
        self._database.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
