"""Bringing the tables up to date, and telling whether they are. Knows Alembic; knows no table.

The migrations are found beside this file, so that neither the working folder nor an alembic.ini
matters. `python -m service.store.schema "what changes"` writes the next migration from the difference
between `tables` and the migrations so far, for a developer to read and correct.

Alembic is imported only to migrate: every process asks for the schema at its start, and importing Alembic
takes longer than all that is asked.
"""

import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select

from service.store.database import Database
from service.store.errors import SchemaError

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "alembic_version"
VERSION = Table(VERSION_TABLE, MetaData(), Column("version_num", String)).c[0]


def migrate(database: Database) -> None:
    """Bring the tables up to date, in one transaction; processes that do it at once take turns.

    Raises
    ------
    SchemaError
        The database is of a newer version of Headstart.
    StoreUnavailableError
    """
    with database.snapshot() as connection:
        if revision(connection) == newest():
            return
    with database.migrating() as connection:
        # Asked again: another process may have migrated while this one waited.
        if revision(connection) != newest():
            from alembic import command

            command.upgrade(_config(connection), "head")


def check(connection: Connection) -> None:
    """See whether the tables are those of this code.

    Raises
    ------
    SchemaError
    """
    found = revision(connection)
    if found != newest():
        raise SchemaError(
            f"the database is at schema {found}, this version needs {newest()}: migrate it first"
        )


def newest() -> str:
    """The schema that this code needs."""
    return revisions()[-1]


@cache
def revisions() -> tuple[str, ...]:
    """All schemas that there have been, ascending: the numbers in the names of the migrations."""
    return tuple(sorted(path.name[1:5] for path in (MIGRATIONS / "versions").glob("r[0-9]*_*.py")))


def require_known(revision: str) -> None:
    """Refuse a schema that this code cannot bring up to date.

    Raises
    ------
    SchemaError
        It is of a newer version of Headstart.
    """
    if revision not in revisions():
        raise SchemaError(
            f"schema {revision} is not known to this version of Headstart: it is of a newer one; use that"
        )


def revision(connection: Connection) -> str | None:
    """The schema of the database, None if it has no tables yet."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.scalar(select(VERSION))
    if found is not None and found not in revisions():
        raise SchemaError(
            f"the database is at schema {found}, which this version of Headstart does not know: "
            "it was used by a newer one; use that, or restore a backup"
        )
    return found


def _config(connection: Connection) -> "Config":
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    # Alembic expands % in its options.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("file_template", "r%%(rev)s_%%(slug)s")
    return config


def write_next(message: str) -> None:
    """Write the next migration file."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/empty.db")
        try:
            migrate(database)
            number = f"{int(newest()) + 1:04}"
            with database.migrating() as connection:
                from alembic import command

                command.revision(_config(connection), message, autogenerate=True, rev_id=number)
        finally:
            database.close()


if __name__ == "__main__":
    write_next(sys.argv[1])
