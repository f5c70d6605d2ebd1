"""The tenants: who shares a server without seeing the heads of the others. Knows no key."""

import re
from datetime import UTC, datetime

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from service.store import audit, quotas, tables
from service.store.access_records import Limits, TenantRow
from service.store.caller import Caller
from service.store.database import Database
from service.store.errors import TenantExistsError, TenantNameError, TenantNotFoundError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_tenants = tables.tenants

ALL = select(_tenants).order_by(_tenants.c.name)
SET = update(_tenants).where(_tenants.c.name == bindparam("wanted"))


class Tenants:
    """All tenants, for whoever runs the server; safe to share between threads."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database = database
        self._caller = caller

    def create(self, name: str, limits: Limits) -> None:
        """Make a tenant.

        Raises
        ------
        TenantNameError
            The name cannot be one.
        TenantExistsError
        """
        if not NAME.fullmatch(name):
            raise TenantNameError(name)
        values = {"name": name, "created_at": datetime.now(UTC), **_columns(limits)}
        try:
            with self._database.write() as connection:
                connection.execute(insert(_tenants), values)
                audit.record(connection, self._caller, "tenant.create", name, _columns(limits))
        except IntegrityError as error:
            raise TenantExistsError(name) from error

    def limit(self, name: str, limits: Limits) -> None:
        """Give a tenant these limits instead of those that it had; what is above them stays.

        Raises
        ------
        TenantNotFoundError
        """
        with self._database.write() as connection:
            changed = connection.execute(SET.values(_columns(limits)), {"wanted": name})
            if changed.rowcount == 0:
                raise TenantNotFoundError(name)
            audit.record(connection, self._caller, "tenant.limit", name, _columns(limits))

    def list(self) -> tuple[TenantRow, ...]:
        """All of them by name, with what they have and what they may have."""
        with self._database.snapshot() as connection:
            return tuple(
                TenantRow(
                    row.name,
                    Limits(row.max_heads, row.max_examples, row.max_bytes),
                    quotas.usage(connection, row.name),
                    row.created_at,
                )
                for row in connection.execute(ALL).all()
            )


def _columns(limits: Limits) -> dict[str, int | None]:
    return {"max_heads": limits.heads, "max_examples": limits.examples, "max_bytes": limits.bytes}
