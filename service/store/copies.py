"""A copy of a whole database as one SQLite file, written while others write, and taken back in one step.

Knows which kind of database is behind. Knows no blob.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from service.store import portable, schema, sqlite_file
from service.store.database import Database
from service.store.durable import sync_folder
from service.store.errors import HomeInUseError, HomeNotEmptyError

OLD_FILES = ("-journal", "-wal", "-shm")


def write_copy(database: Database, path: Path) -> str:
    """Write all rows, as they are at one moment, into a SQLite file that is not there yet; its schema.

    Raises
    ------
    SchemaError
        The database has no tables, or, if it is not SQLite, is not at the schema of this code.
    StoreUnavailableError
    """
    with database.snapshot() as connection:
        found = schema.revision(connection)
        if found is None or not is_file(database):
            schema.check(connection)
    if is_file(database):
        with database.single() as connection:
            sqlite_file.copy_to(connection, path)
        with closing(sqlite3.connect(path)) as copied:
            return str(copied.execute(f"SELECT version_num FROM {schema.VERSION_TABLE}").fetchone()[0])  # noqa: S608
    copy = Database(f"sqlite:///{path}")
    try:
        schema.migrate(copy)
        with database.snapshot() as source, copy.write() as target:
            portable.delete_rows(target)
            portable.copy_rows(source, target)
    finally:
        copy.close()
    return schema.newest()


def read_copy(database: Database, path: Path, *, replace: bool, before: Callable[[], None]) -> None:
    """Let a database have the rows of a copy, all of them or, if this is cut off, none.

    Parameters
    ----------
    path : a copy at the schema of this code; where the database is a file it takes the place of that, so that
        it must be on the same file system.
    replace : whether what the database has may go.
    before : called once nothing stands in the way any more, before the first row is there.

    Raises
    ------
    HomeNotEmptyError, HomeInUseError
    StoreUnavailableError, StoreCorruptedError
    """
    if is_file(database):
        _replace_file(Path(str(database.url.database)).absolute(), path, replace=replace, before=before)
    else:
        _replace_rows(database, path, replace=replace, before=before)


def is_file(database: Database) -> bool:
    """Whether it is a SQLite database."""
    return database.url.get_backend_name() == "sqlite"


def _replace_file(target: Path, path: Path, *, replace: bool, before: Callable[[], None]) -> None:
    if not target.exists():
        _put(target, path, before)
        return
    with sqlite_file.alone(target) as connection:
        if not replace and sqlite_file.has_rows(connection, portable.PRECIOUS):
            raise HomeNotEmptyError(str(target))
        _put(target, path, before)


def _put(target: Path, path: Path, before: Callable[[], None]) -> None:
    before()
    with path.open("rb+") as copy:
        os.fsync(copy.fileno())
    if target.exists():
        path.chmod(target.stat().st_mode & 0o777)
    else:
        for suffix in OLD_FILES:  # of a database that somebody deleted: they would be taken for this one's
            target.with_name(target.name + suffix).unlink(missing_ok=True)
    path.replace(target)
    sync_folder(target.parent)


def _replace_rows(database: Database, path: Path, *, replace: bool, before: Callable[[], None]) -> None:
    schema.migrate(database)
    copy = Database(f"sqlite:///{path}")
    try:
        with copy.snapshot() as source, database.write() as target:
            if portable.count_others(target):
                raise HomeInUseError("the database has other connections: stop the servers on it first")
            if not replace and portable.has_rows(target):
                raise HomeNotEmptyError(database.url.render_as_string(hide_password=True))
            before()
            portable.delete_rows(target)
            portable.copy_rows(source, target)
            portable.go_on_counting(target)
    finally:
        copy.close()
