"""From the name of a head to its row: the only place that looks for one by name.

A name belongs to a tenant. The statements here have a bind parameter `tenant` without a value of its own, so
that a query which forgets it fails instead of finding the head of another.
"""

from sqlalchemy import Connection, bindparam, select

from service.store import tables
from service.store.caller import Caller
from service.store.errors import HeadNotFoundError
from service.store.text import is_storable

_heads = tables.heads

OF_TENANT = _heads.c.tenant == bindparam("tenant")
NAMED = OF_TENANT & (_heads.c.name == bindparam("name"))
HEAD_ID = select(_heads.c.id).where(NAMED)
LOCK_ID = HEAD_ID.with_for_update()


def key_of(caller: Caller, head: str) -> dict[str, str]:
    """The values of `NAMED`: the head of that name which the caller sees."""
    return {"tenant": caller.tenant, "name": head}


def head_id(connection: Connection, caller: Caller, head: str, *, lock: bool = False) -> int:
    """The id of a head, inside a transaction or alone.

    Parameters
    ----------
    lock : hold the row until the end of the transaction.

    Raises
    ------
    HeadNotFoundError
        The caller's tenant has no head of that name.
    """
    row = None
    if is_storable(head):
        row = connection.execute(LOCK_ID if lock else HEAD_ID, key_of(caller, head)).one_or_none()
    if row is None:
        raise HeadNotFoundError(head)
    return int(row.id)
