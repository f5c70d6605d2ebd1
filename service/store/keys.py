"""The rows of API keys, and the bucket of tokens that each rate limit is. Knows no secret, only its sha256.

Every request reads its key anew, so that a revoked one is refused by every process from its commit on.
"""

from datetime import UTC, datetime

from sqlalchemy import bindparam, case, insert, select, update
from sqlalchemy.exc import IntegrityError

from service.store import audit, tables
from service.store.access_records import KeyRow, NewKey
from service.store.caller import Caller
from service.store.database import Database
from service.store.errors import KeyNotFoundError, TenantNotFoundError

_keys = tables.api_keys

COLUMNS = (
    _keys.c.id,
    _keys.c.tenant,
    _keys.c.scope,
    _keys.c.secret_sha256,
    _keys.c.note,
    _keys.c.rate_per_s,
    _keys.c.burst,
    _keys.c.created_at,
    _keys.c.expires_at,
    _keys.c.revoked_at,
)
ONE = select(*COLUMNS).where(_keys.c.id == bindparam("wanted"))
ALL = select(*COLUMNS).order_by(_keys.c.created_at, _keys.c.id)
ANY = select(_keys.c.id).limit(1)
REVOKE = update(_keys).where(_keys.c.id == bindparam("wanted"), _keys.c.revoked_at.is_(None))
# One statement, so that no two processes take the same token. A clock that is behind adds nothing.
_now = bindparam("now", type_=_keys.c.refilled_at.type)
_passed_s = case((_keys.c.refilled_at < _now, _now - _keys.c.refilled_at), else_=0.0)
_refilled = _keys.c.tokens + _passed_s * _keys.c.rate_per_s
_available = case((_refilled < _keys.c.burst, _refilled), else_=_keys.c.burst)
TAKE = (
    update(_keys)
    .where(_keys.c.id == bindparam("wanted"), _available >= 1)
    .values(
        tokens=_available - 1,
        refilled_at=case((_keys.c.refilled_at < _now, _now), else_=_keys.c.refilled_at),
    )
)
AVAILABLE = select(_available).where(_keys.c.id == bindparam("wanted"))


class Keys:
    """All API keys; safe to share between threads."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database = database
        self._caller = caller

    def add(self, key: NewKey) -> KeyRow:
        """Write a new key down; its bucket is full.

        Raises
        ------
        TenantNotFoundError
        """
        now = datetime.now(UTC)
        values = {**vars(key), "created_at": now}
        bucket = {} if key.burst is None else {"tokens": float(key.burst), "refilled_at": now.timestamp()}
        detail = {"scope": key.scope, "tenant": key.tenant}
        try:
            with self._database.write() as connection:
                connection.execute(insert(_keys), values | bucket)
                audit.record(connection, self._caller, "key.create", key.id, detail)
        except IntegrityError as error:
            raise TenantNotFoundError(key.tenant) from error
        return KeyRow(**values, revoked_at=None)

    def find(self, key_id: str) -> KeyRow | None:
        """The key of an id as it is now, also one that is revoked or has expired."""
        with self._database.single() as connection:
            row = connection.execute(ONE, {"wanted": key_id}).one_or_none()
        return None if row is None else KeyRow(**row._mapping)

    def exist(self) -> bool:
        """Whether a key was ever made, usable or not."""
        return len(self._database.quick(ANY, {})) > 0

    def list(self) -> tuple[KeyRow, ...]:
        """All of them, oldest first."""
        with self._database.single() as connection:
            return tuple(KeyRow(**row._mapping) for row in connection.execute(ALL))

    def revoke(self, key_id: str) -> bool:
        """Refuse a key from now on, everywhere; whether it was not revoked before.

        Raises
        ------
        KeyNotFoundError
        """
        with self._database.write() as connection:
            row = connection.execute(ONE, {"wanted": key_id}).one_or_none()
            if row is None:
                raise KeyNotFoundError(key_id)
            statement = REVOKE.values(revoked_at=datetime.now(UTC))
            changed = connection.execute(statement, {"wanted": key_id}).rowcount > 0
            if changed:
                audit.record(connection, self._caller, "key.revoke", key_id, {"tenant": row.tenant})
        return changed

    def take(self, key: KeyRow, now_s: float) -> float:
        """Take a token out of the bucket of a key that has one.

        Parameters
        ----------
        now_s : seconds since 1970; the clocks of all processes must agree to within a fraction of a second.

        Returns
        -------
        0 if there was a token, else the seconds until there is one.
        """
        values = {"wanted": key.id, "now": now_s}
        with self._database.write(durable=False) as connection:
            if connection.execute(TAKE, values).rowcount:
                return 0.0
            available = connection.execute(AVAILABLE, values).scalar_one_or_none()
        return max(0.0, 1 - float(available or 0.0)) / (key.rate_per_s or 1.0)
