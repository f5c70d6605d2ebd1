"""Every row of one database into another, of whatever kind: how a store is copied and moved.

Knows no table by name but those that say whether there is anything to lose.
"""

from typing import Any

from sqlalchemy import Column, Connection, Table, func, insert, select, text

from service.store import tables
from service.store.tables import metadata

ROWS_AT_ONCE = 50  # some have files of megabytes
# Rows of these are somebody's work; all others are caches or belong to these.
PRECIOUS = ("heads", "api_keys", "extractors", "audit_events")


def copy_rows(source: Connection, target: Connection) -> None:
    """Copy every row; the target is at the same schema and empty."""
    for table in metadata.sorted_tables:
        found = source.execution_options(stream_results=True, max_row_buffer=ROWS_AT_ONCE).execute(
            select(table)
        )
        for rows in found.partitions(ROWS_AT_ONCE):
            target.execute(insert(table), [dict(row._mapping) for row in rows])


def delete_rows(connection: Connection) -> None:
    """Delete every row of every table."""
    for table in reversed(metadata.sorted_tables):
        connection.execute(table.delete())


def has_rows(connection: Connection) -> bool:
    """Whether there is anything to lose."""
    precious = [metadata.tables[name] for name in PRECIOUS]
    return any(connection.execute(select(1).select_from(table).limit(1)).first() for table in precious)


def go_on_counting(connection: Connection) -> None:
    """PostgreSQL: let every table count on from above the largest number that was copied into it.

    A counter never goes back: where it is, it stays even if the transaction is undone.
    """
    for table in metadata.sorted_tables:
        column = counted(table)
        if column is not None:
            largest = connection.execute(select(func.coalesce(func.max(column), 0))).scalar_one()
            connection.execute(
                text(
                    "SELECT setval(counter, greatest(nextval(counter), :next), false)"
                    " FROM (SELECT pg_get_serial_sequence(:name, :column)::regclass AS counter) AS of_table"
                ),
                {"name": table.name, "column": column.name, "next": largest + 1},
            )


def count_others(connection: Connection) -> int:
    """PostgreSQL: how many other connections the database has, as far as one may see them."""
    statement = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    return int(connection.execute(statement).scalar_one())


def counted(table: Table) -> Column[Any] | None:
    """The column that the database numbers by itself, if a table has one."""
    return next(
        (column for column in table.columns if column.type is tables.RowId and column.autoincrement is True),
        None,
    )
