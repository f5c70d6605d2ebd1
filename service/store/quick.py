"""Reads that every prediction makes, past SQLAlchemy: between two runs of a network its code is out of the
processor's caches, and takes ten times as long as the read itself.

Knows SQLite's driver. What goes wrong here is asked again the long way, which tells what it is.
"""

import sqlite3
from collections import deque
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, Select
from sqlalchemy.dialects import sqlite

_dialect = sqlite.dialect(paramstyle="named")


class QuickReads:
    """Connections of their own, as many as read at once; safe to share between threads.

    Parameters
    ----------
    engine : of a SQLite database, whose connections commit by themselves and may change threads.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._idle: deque[sqlite3.Connection] = deque()
        self._texts: dict[Select[Any], tuple[str, Mapping[str, Any]]] = {}
        self._open: set[sqlite3.Connection] = set()

    @property
    def in_use(self) -> int:
        return len(self._open) - len(self._idle)

    def rows(self, statement: Select[Any], values: Mapping[str, Any]) -> list[Any] | None:
        """The rows of one statement whose columns need no conversion; None if it failed.

        `statement` is a constant of a module: its text is kept.
        """
        text, constants = self._texts.get(statement) or self._compile(statement)
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            rows = connection.execute(text, {**constants, **values}).fetchall()
        except sqlite3.Error:
            self._close(connection)
            return None
        self._idle.append(connection)
        return rows

    def close(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            self._close(self._idle.pop())

    def _close(self, connection: sqlite3.Connection) -> None:
        self._open.discard(connection)
        connection.close()

    def _compile(self, statement: Select[Any]) -> tuple[str, Mapping[str, Any]]:
        """The text of a statement, and the parameters that it has a value of, such as a limit."""
        compiled = statement.compile(dialect=_dialect)
        self._texts[statement] = str(compiled), {k: v for k, v in compiled.params.items() if v is not None}
        return self._texts[statement]

    def _connect(self) -> sqlite3.Connection:
        pooled = self._engine.raw_connection()
        connection = pooled.driver_connection
        if not isinstance(connection, sqlite3.Connection):
            raise TypeError(f"expected a connection of sqlite3, found {type(connection)}")
        pooled.detach()
        self._open.add(connection)
        return connection
