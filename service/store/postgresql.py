"""PostgreSQL: for several replicas on one database. The only module with SQL or settings of PostgreSQL."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    URL,
    Connection,
    Engine,
    Select,
    Table,
    Text,
    bindparam,
    cast,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
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

SYNCHRONOUS_COMMIT = "headstart_synchronous_commit"
POOL_SIZE = 16  # connections each process keeps open
MAX_OVERFLOW = 16  # and how many more it opens for a moment
# When a server that has fallen silent is given up: libpq's parameters, which a URL may set otherwise.
LOST_AFTER = {
    "connect_timeout": 5,  # s
    "tcp_user_timeout": 10_000,  # ms
    "keepalives_idle": 5,  # s
    "keepalives_interval": 2,  # s
    "keepalives_count": 3,
}
ENCODING = "UTF8"  # of names and labels, which may be any text
MIGRATION_LOCK = 0x48454144  # "HEAD": the advisory lock that migrations take

# By SQLSTATE, or by its class where all of the class means the same (PostgreSQL manual, appendix A).
UNAVAILABLE_CLASSES = ("08", "53", "57", "58")
UNAVAILABLE_STATES = ("25006", "40001", "40P01", "55P03")
CORRUPTED_CLASS = "XX"
SCHEMA_STATES = ("42P01", "42703")


class Postgresql:
    """A PostgreSQL server, through psycopg."""

    one_writer: ClassVar[bool] = False
    forkable: ClassVar[bool] = True
    modes: ClassVar[Mapping[Mode, Mapping[str, Any]]] = {
        Mode.SINGLE: {"isolation_level": "AUTOCOMMIT"},
        Mode.SNAPSHOT: {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
        Mode.WRITE: {"isolation_level": "READ COMMITTED"},
        Mode.CACHE_WRITE: {"isolation_level": "READ COMMITTED", SYNCHRONOUS_COMMIT: "off"},
    }

    def prepare(self, url: URL) -> None:
        """Nothing: the server is there or it is not."""

    def shared_folder(self, url: URL) -> None:
        """None: processes on any machine may use the database."""

    def was_replaced(self) -> bool:
        return False

    def engine(self, url: URL, busy_timeout_s: float) -> Engine:
        engine = create_engine(
            url,
            pool_size=POOL_SIZE,
            max_overflow=MAX_OVERFLOW,
            pool_timeout=busy_timeout_s,
            pool_pre_ping=True,
            pool_use_lifo=True,
            json_serializer=to_json,
            connect_args={name: value for name, value in LOST_AFTER.items() if name not in url.query}
            | {"options": f"-c lock_timeout={round(busy_timeout_s * 1000)}", "client_encoding": ENCODING},
        )

        @event.listens_for(engine, "connect")
        def require_encoding(connection: Any, record: object) -> None:
            found = connection.info.parameter_status("server_encoding")
            if found != ENCODING:
                raise DatabaseUrlError(
                    f"the database must be in {ENCODING}, and is in {found}: create another"
                )

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            level = connection.get_execution_options().get(SYNCHRONOUS_COMMIT)
            if level is not None:
                connection.exec_driver_sql(f"SET LOCAL synchronous_commit = {level}")

        return engine

    def insert_or_ignore(self, table: Table) -> Insert:
        return postgresql.insert(table).on_conflict_do_nothing()

    def items_of(self, parameter: str) -> Select[str]:
        items = cast(bindparam(parameter, type_=Text), JSON)
        return select(func.json_array_elements_text(items).table_valued("value").c.value)

    def failure(self, error: DBAPIError) -> StoreError | None:
        state = getattr(error.orig, "sqlstate", None) or ""
        if state.startswith(CORRUPTED_CLASS):
            return StoreCorruptedError("the database is damaged", error.orig)
        if state in SCHEMA_STATES:
            return SchemaError("the database lacks tables: migrate it first", error.orig)
        lost = error.connection_invalidated or (not state and _is_operational(error))
        if lost or state in UNAVAILABLE_STATES or state.startswith(UNAVAILABLE_CLASSES):
            return StoreUnavailableError("the database cannot be used now", error.orig)
        return None

    @contextmanager
    def migrating(self, engine: Engine) -> Iterator[Connection]:
        with engine.execution_options(**self.modes[Mode.WRITE]).begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            yield connection


def _is_operational(error: DBAPIError) -> bool:
    """Whether the driver failed before the server could give a SQLSTATE: no connection, then."""
    return any(kind.__name__ == "OperationalError" for kind in type(error.orig).__mro__)
