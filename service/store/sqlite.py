"""SQLite: the embedded default. The only module with SQL or settings of SQLite.

The driver's own transaction handling is switched off (it begins too late and never for reads) and
BEGIN is sent here: IMMEDIATE for writers, so that a transaction that reads and then writes cannot
fail half-way with a lock that no waiting resolves.
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Select,
    Table,
    Text,
    bindparam,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.sql.dml import Insert

from service.store.backend import Mode
from service.store.errors import (
    DatabaseUrlError,
    SchemaError,
    StoreCorruptedError,
    StoreError,
    StoreUnavailableError,
)
from service.store.jsontext import to_json

BEGIN = "headstart_begin"
SYNCHRONOUS = "headstart_synchronous"
POOL_SIZE = 64  # connections kept open: as many as threads ask at once; each is cheap

FileIdentity = tuple[int, int]  # device and inode

LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
UNAVAILABLE = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the database cannot be written to",
    sqlite3.SQLITE_PERM: "the database cannot be written to",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write",
    sqlite3.SQLITE_NOMEM: "out of memory",
}
PRIMARY_CODE = 0xFF  # the low byte of an extended result code


class Sqlite:
    """A database in one file, in WAL mode: many readers and one writer, over several processes."""

    one_writer: ClassVar[bool] = True
    # The library keeps a table of its file locks in memory, which a child would wrongly inherit.
    forkable: ClassVar[bool] = False
    modes: ClassVar[Mapping[Mode, Mapping[str, Any]]] = {
        Mode.SINGLE: {},
        Mode.SNAPSHOT: {BEGIN: "BEGIN"},
        Mode.WRITE: {BEGIN: "BEGIN IMMEDIATE", SYNCHRONOUS: "FULL"},
        # NORMAL skips the fsync at commit: a killed process loses nothing, a power loss only the newest.
        Mode.CACHE_WRITE: {BEGIN: "BEGIN IMMEDIATE", SYNCHRONOUS: "NORMAL"},
    }

    def __init__(self) -> None:
        self._path: Path | None = None
        self._file: FileIdentity | None = None

    def prepare(self, url: URL) -> None:
        if not url.database or ":memory:" in url.database or "memory" in url.query.get("mode", ""):
            raise DatabaseUrlError(
                "several processes share a SQLite database, so it must be a file: sqlite:////folder/headstart.db"
            )
        if url.database.startswith("file:"):
            return
        self._path = Path(url.database).absolute()
        folder = self._path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailableError(
                f"the folder of the database cannot be created: {error.strerror}", folder
            ) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StoreUnavailableError("the folder of the database cannot be written to", folder)

    def was_replaced(self) -> bool:
        if self._path is None or self._file is None:
            return False
        found = _identity(self._path)
        if found is None:
            raise StoreUnavailableError("the database file is gone", self._path)
        replaced, self._file = found != self._file, found
        return replaced

    def shared_folder(self, url: URL) -> Path | None:
        return None if self._path is None else self._path.parent

    def engine(self, url: URL, busy_timeout_s: float) -> Engine:
        engine = create_engine(
            url,
            poolclass=QueuePool,
            pool_size=POOL_SIZE,
            max_overflow=-1,
            pool_use_lifo=True,
            json_serializer=to_json,
            connect_args={"timeout": busy_timeout_s, "isolation_level": None},
        )

        @event.listens_for(engine, "do_connect")
        def stay_with_the_file(*_: object) -> None:
            # SQLite would make an empty database where the file was removed.
            if self._path is not None and self._file is not None and _identity(self._path) is None:
                raise StoreUnavailableError("the database file is gone", self._path)

        @event.listens_for(engine, "connect")
        def configure(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
            driver_connection = cast(sqlite3.Connection, connection)
            _use_wal(driver_connection, busy_timeout_s)
            driver_connection.execute("PRAGMA foreign_keys=ON")
            # Deleted rows are overwritten with zeros, for people who must be able to forget.
            driver_connection.execute("PRAGMA secure_delete=ON")
            if self._path is not None and self._file is None:
                self._file = _identity(self._path)

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            options = connection.get_execution_options()
            level = options.get(SYNCHRONOUS)
            if level is not None and connection.info.get(SYNCHRONOUS) != level:
                connection.exec_driver_sql(f"PRAGMA synchronous={level}")
                connection.info[SYNCHRONOUS] = level
            if BEGIN in options:
                connection.exec_driver_sql(options[BEGIN])

        return engine

    def insert_or_ignore(self, table: Table) -> Insert:
        return sqlite.insert(table).on_conflict_do_nothing()

    def items_of(self, parameter: str) -> Select[str]:
        return select(func.json_each(bindparam(parameter, type_=Text)).table_valued("value").c.value)

    def failure(self, error: DBAPIError) -> StoreError | None:
        cause = error.orig
        if isinstance(cause, sqlite3.ProgrammingError) and "closed database" in str(cause):
            return StoreUnavailableError("the store was closed")
        extended = getattr(cause, "sqlite_errorcode", None)
        if extended is None:
            return None
        code = extended & PRIMARY_CODE
        if code in LOCKED:
            return StoreUnavailableError("the database is locked by another writer", cause)
        if code in DAMAGED:
            return StoreCorruptedError("the database file is damaged or is not a database", cause)
        if code in UNAVAILABLE:
            return StoreUnavailableError(UNAVAILABLE[code], cause)
        if code == sqlite3.SQLITE_ERROR and str(cause).startswith(("no such table", "no such column")):
            return SchemaError("the database lacks tables: migrate it first", cause)
        return None

    @contextmanager
    def migrating(self, engine: Engine) -> Iterator[Connection]:
        with engine.execution_options(**self.modes[Mode.WRITE]).connect() as connection:
            # Rebuilding a table drops it; with foreign keys on, that would delete its children.
            # The pragma does nothing inside a transaction, hence the bare cursor before BEGIN.
            raw = cast(sqlite3.Connection, connection.connection.dbapi_connection)
            raw.execute("PRAGMA foreign_keys=OFF")
            try:
                with connection.begin():
                    yield connection
                    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
                    if broken:
                        raise SchemaError(f"the migration broke {len(broken)} references; it was undone")
            finally:
                raw.execute("PRAGMA foreign_keys=ON")


def _identity(path: Path) -> FileIdentity | None:
    """What tells a file from another one under its name; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _use_wal(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    """Put the file into WAL mode, once in its life; later calls find it so.

    SQLite does not wait for other processes when it changes the mode, it fails at once. An empty
    write transaction does wait, so the loop waits there for whoever was first.
    """
    deadline_s = time.monotonic() + busy_timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            locked = error.sqlite_errorcode & PRIMARY_CODE in LOCKED
            if not locked or time.monotonic() > deadline_s:
                raise
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
