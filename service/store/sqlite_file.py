"""A SQLite database as a file: copied while others write, checked, held alone, made to forget.

Beside `sqlite`, the only module with SQL of SQLite. Knows no table but those that a caller names.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection

from service.store.errors import StoreCorruptedError, StoreUnavailableError

PATIENCE_S = 2.0  # for other processes to close the file
CHECKPOINT_PATIENCE_S = 30.0  # for readers that still look at what is to go
POLL_S = 0.1


def copy_to(connection: Connection, path: Path) -> None:
    """Write the database, as it is at this moment, as a file that is not there yet.

    Others go on to read and write. The copy has no free pages, so nothing of what was deleted.

    Parameters
    ----------
    connection : without a transaction.
    """
    connection.exec_driver_sql("VACUUM INTO ?", (str(path),))


def check(path: Path) -> None:
    """See whether a file, which nobody else has open, is a whole database.

    Raises
    ------
    StoreCorruptedError
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            broken = connection.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.DatabaseError as error:
        raise StoreCorruptedError(f"{path.name} is damaged or is not a database: {error}") from error
    if found != "ok" or broken is not None:
        reason = found if broken is None else f"a row of {broken[0]} refers to none of {broken[2]}"
        raise StoreCorruptedError(f"{path.name} is damaged: {reason}")


@contextmanager
def alone(path: Path) -> Iterator[sqlite3.Connection]:
    """Hold a database so that no other process can open or use it until the end of the block.

    Its write-ahead log is then part of the file: another file may take its place.

    Raises
    ------
    StoreUnavailableError
        Another process has it open.
    StoreCorruptedError
    """
    with closing(sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)) as connection:
        try:
            # As long as somebody else has the file open, its log cannot be given up.
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            message = f"{path} is in use: stop the servers, workers and commands on it first ({error})"
            raise StoreUnavailableError(message) from error
        except sqlite3.DatabaseError as error:
            raise StoreCorruptedError(f"{path} is damaged or is not a database: {error}") from error
        yield connection


def has_rows(connection: sqlite3.Connection, names: Sequence[str]) -> bool:
    """Whether one of these tables, of those that are there, has a row."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    there = {row[0] for row in rows} & set(names)
    return any(connection.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone() for name in there)  # noqa: S608


def rewrite(connection: Connection) -> None:
    """Write the whole file anew, without free pages; writers wait for as long as it takes."""
    connection.exec_driver_sql("VACUUM")


def empty_log(connection: Connection) -> None:
    """Take the write-ahead log into the file and cut it to nothing: it has deleted rows as they were.

    Raises
    ------
    StoreUnavailableError
        A reader stood in the way all the time.
    """
    deadline_s = time.monotonic() + CHECKPOINT_PATIENCE_S
    while connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]:
        if time.monotonic() > deadline_s:
            raise StoreUnavailableError(
                "a long read keeps the database from emptying its write-ahead log: try again"
            )
        time.sleep(POLL_S)
