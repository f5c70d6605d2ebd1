"""What a tenant may have at most: heads, examples, bytes. Asked inside the transaction that adds to them.

Counted, not kept as a running total: it costs nothing without a limit, and cannot be wrong with one.
"""

from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from service.store import tables
from service.store.access_records import Limits, Usage
from service.store.changes import Change
from service.store.errors import QuotaExceededError, TenantNotFoundError

_tenants = tables.tenants
_heads = tables.heads
_of_tenant = _heads.c.tenant == bindparam("tenant")

LIMITS = select(_tenants.c.max_heads, _tenants.c.max_examples, _tenants.c.max_bytes).where(
    _tenants.c.name == bindparam("tenant")
)
# PostgreSQL: changes of a tenant with a limit take turns, so that two of them do not exceed it together.
LOCK = LIMITS.with_for_update()
HEADS = select(func.count()).select_from(_heads).where(_of_tenant)
EXAMPLES = (
    select(func.count())
    .select_from(tables.examples.join(_heads, _heads.c.id == tables.examples.c.head_id))
    .where(_of_tenant)
)


def _bytes_of(table: Any) -> Select[Any]:
    joined = table.join(_heads, _heads.c.id == table.c.head_id)
    return select(func.coalesce(func.sum(table.c.size_bytes), 0)).select_from(joined).where(_of_tenant)


INPUT_BYTES = _bytes_of(tables.kept_inputs)
FILE_BYTES = _bytes_of(tables.head_files)


def hold(connection: Connection, tenant: str) -> Limits:
    """The limits of a tenant; where it has some, its other changes wait until the end of this transaction.

    Raises
    ------
    TenantNotFoundError
    """
    row = connection.execute(LIMITS, {"tenant": tenant}).one_or_none()
    if row is None:
        raise TenantNotFoundError(tenant)
    limits = Limits(*row)
    if limits != Limits():
        limits = Limits(*connection.execute(LOCK, {"tenant": tenant}).one())
    return limits


def require(connection: Connection, tenant: str, limits: Limits, change: Change) -> None:
    """Refuse a change that has brought a tenant above one of its limits; one that adds nothing goes through.

    Raises
    ------
    QuotaExceededError
        The transaction must be undone.
    """
    if limits.heads is not None and change.creates:
        _compare("heads", _count(connection, tenant, HEADS), limits.heads)
    if limits.examples is not None and change.add:
        _compare("examples", _count(connection, tenant, EXAMPLES), limits.examples)
    if limits.bytes is not None and (change.inputs or change.version):
        _compare("bytes", _bytes(connection, tenant), limits.bytes)


def usage(connection: Connection, tenant: str) -> Usage:
    """What a tenant has now."""
    return Usage(
        _count(connection, tenant, HEADS),
        _count(connection, tenant, EXAMPLES),
        _bytes(connection, tenant),
    )


def _bytes(connection: Connection, tenant: str) -> int:
    return _count(connection, tenant, INPUT_BYTES) + _count(connection, tenant, FILE_BYTES)


def _count(connection: Connection, tenant: str, statement: Select[Any]) -> int:
    return int(connection.execute(statement, {"tenant": tenant}).scalar_one())


def _compare(what: str, used: int, limit: int) -> None:
    if used > limit:
        raise QuotaExceededError(what, used, limit)
