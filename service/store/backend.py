"""What the store asks of a database engine: the only door to SQL that is not portable.

`sqlite` and `postgresql` each implement it; nothing else in the store knows which of them is behind.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Protocol

from sqlalchemy import URL, Connection, Engine, Select, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.dml import Insert

from service.store.errors import StoreError


class Mode(Enum):
    """How a connection is used."""

    SINGLE = "one statement, no transaction around it"
    SNAPSHOT = "several reads that see one state"
    WRITE = "a transaction that survives a power loss once it is acknowledged"
    CACHE_WRITE = "a transaction that a power loss may undo as a whole"


class Backend(Protocol):
    """One kind of database.

    Attributes
    ----------
    one_writer : whether the database lets one transaction write at a time.
    forkable : whether a child process may go on after a fork while a connection was in use.
    modes : SQLAlchemy execution options for each mode.
    """

    one_writer: ClassVar[bool]
    forkable: ClassVar[bool]
    modes: ClassVar[Mapping[Mode, Mapping[str, Any]]]

    def prepare(self, url: URL) -> None:
        """Make what the database needs before the first connection, such as its folder."""
        ...

    def was_replaced(self) -> bool:
        """Whether another database took the place of the one that was opened, since the last call.

        Raises
        ------
        StoreUnavailableError
            There is none any more; what was written into an open file without a name would be lost.
        """
        ...

    def shared_folder(self, url: URL) -> Path | None:
        """A folder that all processes which could use the database are beside; None if there is none."""
        ...

    def engine(self, url: URL, busy_timeout_s: float) -> Engine: ...

    def insert_or_ignore(self, table: Table) -> Insert:
        """An INSERT that leaves a row alone which is there already."""
        ...

    def items_of(self, parameter: str) -> Select[str]:
        """The strings of a JSON list that is given as a parameter, one in each row."""
        ...

    def failure(self, error: DBAPIError) -> StoreError | None:
        """The store's word for a driver's error; None for one that is a bug."""
        ...

    def migrating(self, engine: Engine) -> AbstractContextManager[Connection]:
        """A transaction in which this process alone changes the schema, all of it or nothing."""
        ...
