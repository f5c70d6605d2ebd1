"""Connections and transactions: the only module that opens them, and the one that translates failures.

Knows no table. Five ways in: `single` (one statement), `quick` (one that every prediction makes), `snapshot`
(reads that see one state), `write` (one transaction, all of it or nothing) and `migrating`.
"""

import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from sqlalchemy import URL, Connection, Engine, Select, Table, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.sql.dml import Insert

from service.store.backend import Backend, Mode
from service.store.errors import DatabaseUrlError, StoreError, StoreUnavailableError
from service.store.postgresql import Postgresql
from service.store.quick import QuickReads
from service.store.sqlite import Sqlite
from service.store.writers import Writers

BUSY_TIMEOUT_S = 10.0
LOCK_FILE = "blob-writers.lock"
POSTGRESQL_DRIVER = "postgresql+psycopg"  # the one that is tested, where the URL names none
BACKENDS: dict[str, type[Backend]] = {"sqlite": Sqlite, "postgresql": Postgresql}


class Database:
    """A pool of connections to one database; safe to share between threads.

    Parameters
    ----------
    database_url : SQLAlchemy URL, `sqlite:////folder/file.db` or `postgresql://user:secret@host/name`.
    busy_timeout_s : how long a call waits for other writers before it gives up.

    Attributes
    ----------
    folder : where the file of a SQLite database is; None for a database that a server keeps.
    blob_writers : the processes that write blobs beside this database.

    Raises
    ------
    DatabaseUrlError
        The URL cannot be parsed, or names a database that is not supported.
    StoreUnavailableError
        The folder of a SQLite database cannot be made or written to.
    """

    def __init__(self, database_url: str, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.url = _parse(database_url)
        self._backend = BACKENDS[self.url.get_backend_name()]()
        self._backend.prepare(self.url)
        self._busy_timeout_s = busy_timeout_s
        self._engine = self._create_engine()
        self._engines = {
            mode: self._engine.execution_options(**options) for mode, options in self._backend.modes.items()
        }
        self._quick = QuickReads(self._engine) if isinstance(self._backend, Sqlite) else None
        self._turn = threading.Lock()
        self._refusal: str | None = None
        self._in_use_at_fork = 0
        self.folder = self._backend.shared_folder(self.url)
        self.blob_writers = Writers(None if self.folder is None else self.folder / LOCK_FILE)
        _open_databases.add(self)

    @contextmanager
    def single(self) -> Iterator[Connection]:
        """A connection for one statement: the cheapest way to read."""
        with self._translated(), self._engines[Mode.SINGLE].connect() as connection:
            yield connection

    @property
    def reads_at_once(self) -> bool:
        """Whether `quick` takes microseconds and waits for no network and no writer."""
        return self._quick is not None

    def quick(self, statement: Select[Any], values: Mapping[str, Any]) -> Sequence[Any]:
        """The rows of a statement that every prediction reads: a constant, of columns of plain types."""
        with self._translated():
            rows = self._quick.rows(statement, values) if self._quick is not None else None
        if rows is not None:
            return rows
        with self.single() as connection:
            return connection.execute(statement, values).all()

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection whose reads all see the state at the first of them."""
        with self._translated(), self._engines[Mode.SNAPSHOT].begin() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """A transaction, committed at the end of the block, undone if the block raises.

        durable : False for what can be computed again. It survives a killed process all the same.
        """
        mode = Mode.WRITE if durable else Mode.CACHE_WRITE
        self.require_same()
        with self._translated(), self._take_turn(), self._engines[mode].begin() as connection:
            yield connection

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """The transaction in which this process alone may change the schema."""
        with self._translated(), self._take_turn(), self._backend.migrating(self._engine) as connection:
            yield connection

    def require_same(self) -> None:
        """See to it that what is used is the database that is there under its name now.

        Raises
        ------
        StoreUnavailableError
            There is none any more.
        """
        with self._translated():
            if self._backend.was_replaced():
                self._close_quick()
                self._engine.dispose()

    def insert_or_ignore(self, table: Table) -> Insert:
        return self._backend.insert_or_ignore(table)

    def items_of(self, parameter: str) -> Select[str]:
        """The strings of a JSON list that is given as a parameter, one in each row."""
        return self._backend.items_of(parameter)

    def close(self) -> None:
        """Close the connections. Calls that come later are refused."""
        self._refusal = "the store is closed"
        self.blob_writers.leave()
        self._close_quick()
        self._engine.dispose()
        _open_databases.discard(self)

    def before_fork(self) -> None:
        """Close what is idle, so that the child inherits no connection."""
        self._close_quick()
        self._in_use_at_fork = self._engine.pool.checkedout()  # type: ignore[attr-defined]
        self._in_use_at_fork += self._quick.in_use if self._quick is not None else 0
        self._engine.dispose()

    def after_fork(self) -> None:
        """In the child: start anew, or refuse if another thread was amid a transaction."""
        self._engine.dispose(close=False)
        self._turn = threading.Lock()
        if self._in_use_at_fork and not self._backend.forkable:
            self._refusal = "this process was forked while another thread used the store"

    def _close_quick(self) -> None:
        if self._quick is not None:
            self._quick.close()

    def _create_engine(self) -> Engine:
        try:
            return self._backend.engine(self.url, self._busy_timeout_s)
        except (ArgumentError, NoSuchModuleError, TypeError) as error:
            raise DatabaseUrlError(f"{_shown(self.url)}: {error}") from error
        except ModuleNotFoundError as error:
            raise DatabaseUrlError(f"{_shown(self.url)} needs the Python package {error.name!r}") from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if self._refusal:
            raise StoreUnavailableError(self._refusal)
        try:
            yield
        except PoolTimeoutError as error:
            raise StoreUnavailableError("all connections to the database are in use") from error
        except DBAPIError as error:
            failure = self._backend.failure(error)
            if failure is None:
                raise
            raise _named(failure, self.url) from error

    def _take_turn(self) -> AbstractContextManager[None]:
        return self._queue() if self._backend.one_writer else nullcontext()

    @contextmanager
    def _queue(self) -> Iterator[None]:
        """Let the threads of this process write one after the other.

        They would otherwise all poll for the file lock, and the unlucky would starve.
        """
        turn = self._turn
        if not turn.acquire(timeout=self._busy_timeout_s):
            raise StoreUnavailableError("the database is locked by another writer of this process")
        try:
            yield
        finally:
            turn.release()


_open_databases: "weakref.WeakSet[Database]" = weakref.WeakSet()


def _before_fork() -> None:
    for database in list(_open_databases):
        database.before_fork()


def _after_fork() -> None:
    for database in list(_open_databases):
        database.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def _parse(database_url: str) -> URL:
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError) as error:
        raise DatabaseUrlError(
            "the database URL cannot be parsed; expected sqlite:////folder/file.db"
        ) from error
    if url.get_backend_name() not in BACKENDS:
        raise DatabaseUrlError(f"{_shown(url)}: expected a URL of {' or '.join(sorted(BACKENDS))}")
    return url.set(drivername=POSTGRESQL_DRIVER) if url.drivername == "postgresql" else url


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=True)


def _named(failure: StoreError, url: URL) -> StoreError:
    """The failure with the database in its message, never with the password."""
    return type(failure)(failure.public, f"{failure}: {_shown(url)}".removeprefix(f"{failure.public}: "))
