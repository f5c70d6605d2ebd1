"""Who a store is opened for. Knows no key and no HTTP.

Every query that takes the name of a head also takes the tenant of the caller: a name alone means nothing.
"""

from dataclasses import dataclass

DEFAULT_TENANT = "default"
LOCAL = "local"  # whoever may open the database anyway: commands, tests


@dataclass(frozen=True)
class Once:
    """A request that is carried out once: its key, and the token of this attempt at it."""

    key: str
    token: str


@dataclass(frozen=True)
class Caller:
    """Whose heads a call sees, and who is written down for what it changes.

    Attributes
    ----------
    tenant : name of the tenant.
    actor : `key ID`, `anonymous`, `worker NAME` or `local`.
    request_id : of the HTTP request, if it is one.
    once : its `Idempotency-Key`, if it has one: what it changes is then settled with it.
    """

    tenant: str = DEFAULT_TENANT
    actor: str = LOCAL
    request_id: str | None = None
    once: Once | None = None
