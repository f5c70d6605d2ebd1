"""Where a server without keys may listen: on loopback only, unless it is told to be open to all.

Knows the store and the settings. Does not know how a server is started.
"""

from functools import lru_cache
from ipaddress import ip_address

from service.config import Settings
from service.store import Store
from training.errors import HeadstartError


class ExposedError(HeadstartError):
    """Others could reach a server that asks nobody for a key."""

    code = "exposed"


@lru_cache
def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


@lru_cache
def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address. Of names, `localhost` is such a one."""
    if not is_address(address):
        return address.lower().rstrip(".") == "localhost"
    found = ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)


def require_guarded(settings: Settings, host: str) -> None:
    """Refuse to listen on an address that others reach while there is no key.

    Raises
    ------
    ExposedError
    StoreError
    """
    if settings.allow_anonymous or is_loopback(host):
        return
    with Store.open(settings.resolved_database_url, settings.resolved_blob_url) as store:
        if store.keys.exist():
            return
    raise ExposedError(
        f"{host} can be reached from elsewhere, and there is no API key: make one with `headstart keys create"
        " --scope admin`, listen on 127.0.0.1, or set HEADSTART_ALLOW_ANONYMOUS=true to let everybody in"
    )
