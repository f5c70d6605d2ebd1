"""What the store gives back of tenants, keys and the audit log: frozen rows. Times are aware and in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Limits:
    """The most that a tenant may have; None: no limit."""

    heads: int | None = None
    examples: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Usage:
    """What a tenant has. `bytes` are those of kept inputs and of head files."""

    heads: int
    examples: int
    bytes: int


@dataclass(frozen=True)
class NewKey:
    """An API key to write down: `id` is public, of the secret there is only the sha256.

    `rate_per_s` and `burst` are its rate limit, both or neither.
    """

    id: str
    tenant: str
    scope: str
    secret_sha256: str
    note: str | None = None
    rate_per_s: float | None = None
    burst: int | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True)
class KeyRow(NewKey):
    """An API key as it is now."""

    created_at: datetime = field(kw_only=True)
    revoked_at: datetime | None = field(kw_only=True)

    def is_usable(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True)
class TenantRow:
    """A tenant with what it may have and what it has."""

    name: str
    limits: Limits
    usage: Usage
    created_at: datetime


@dataclass(frozen=True)
class AuditEvent:
    """Something that was changed, or was asked for and refused.

    `seq` orders the events and is the cursor of their list. `outcome` is `ok` or the code of the error.
    """

    seq: int
    at: datetime
    tenant: str
    actor: str
    request_id: str | None
    action: str
    target: str | None
    outcome: str
    detail: Mapping[str, Any]
