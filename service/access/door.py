"""The door of every operation: whose key it is, whether it may do this, and how often. One dependency.

A key is looked up in the database for each request, so that a revoked one is refused at once by every process
of every server. What a caller asked to change and did not get is written into the audit log.
"""

import logging
import math
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from urllib.parse import unquote_to_bytes

from anyio import to_thread
from fastapi import Request

from service.access.exposure import is_address, is_loopback
from service.access.scopes import ADMIN, METRICS, PREDICT, SCOPE_OF, Scope, allows, is_write
from service.access.secrets import KEY_IN_TEXT, Secret
from service.config import Settings
from service.engine import Engine
from service.errors import ApiError, api_error
from service.store import DEFAULT_TENANT, Caller, KeyRow, Store, StoreError
from training.errors import HeadstartError

logger = logging.getLogger("headstart.access")

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="headstart"'}
WRONG = {"WWW-Authenticate": 'Bearer realm="headstart", error="invalid_token"'}
KEY_PARAMETERS = frozenset({"access_token", "api_key", "apikey", "key", "token"})
MAX_TARGET = 128


async def admit(request: Request) -> None:
    """Let a request in or refuse it; `request.state.caller` is then who it comes from.

    Raises
    ------
    ApiError
        400: a key in the query, or several. 401: no key, or not one that is valid. 403: a key without the
        scope, or no key, from elsewhere. 429: too many requests of this key.
    """
    await _admit(request, SCOPE_OF[_operation(request)])


async def note_refusal(request: Request, error: Exception) -> None:
    """Write into the audit log what somebody with a name asked to change and did not get."""
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None or not is_write(_operation(request)):
        return
    found = api_error(error) if isinstance(error, HeadstartError) else error
    if isinstance(found, ApiError) and found.status < 500:
        store = started(request).store.of(caller)
        await to_thread.run_sync(_note, store, _operation(request), _target(request), found.code)


async def admit_to_metrics(request: Request) -> None:
    """As `admit`, where the settings ask for a key: one of the default tenant, as the figures are of all.

    Raises
    ------
    ApiError
    """
    settings: Settings = request.app.state.settings
    if settings.metrics_need_key:
        caller = await _admit(request, PREDICT)
        if caller.tenant != DEFAULT_TENANT:
            raise _forbidden(f"{METRICS} shows figures of all tenants: it needs a key of the default tenant")


def refuse_key_in_query(request: Request) -> None:
    """Refuse a key where proxies and logs write it down, whatever else the request has.

    Raises
    ------
    ApiError
        400 `key_in_query`.
    """
    query: bytes = request.scope["query_string"]
    if not query:
        return
    named = KEY_PARAMETERS.intersection(name.lower() for name in request.query_params)
    if named or KEY_IN_TEXT.search(unquote_to_bytes(query)):
        message = "a key belongs into the Authorization header; one that was in a URL should be revoked"
        raise ApiError(400, "key_in_query", message, param=min(named, default=None))


async def _admit(request: Request, needed: Scope) -> Caller:
    refuse_key_in_query(request)
    given = _authorization(request)
    engine = started(request)
    is_local = engine.settings.allow_anonymous or _is_local(request)
    request_id: str = request.state.request_id
    identified = partial(identify, engine.store, given, request_id, is_local=is_local)
    # Without a key this is one read, which a database in a file answers sooner than a thread begins.
    at_once = given is None and engine.store.reads_at_once
    caller, scope = identified() if at_once else await to_thread.run_sync(identified)
    request.state.caller = caller
    if not allows(scope, needed):
        raise _forbidden(f"this needs a key with the scope {needed!r}, and this one has {scope!r}")
    return caller


def identify(store: Store, given: str | None, request_id: str, *, is_local: bool) -> tuple[Caller, str]:
    """Who sends an Authorization header, and the scope that this one has.

    Parameters
    ----------
    given : the header; None without one.
    is_local : whether a server without any key answers this request.

    Raises
    ------
    ApiError
    """
    scheme, _, credentials = (given or "").partition(" ")
    secret = Secret.read(credentials.strip(" ")) if scheme.lower() == "bearer" else None
    if secret is None:
        return _without_key(store, scheme, request_id, is_local=is_local), ADMIN
    key = store.keys.find(secret.id)
    if not secret.matches(None if key is None else key.secret_sha256) or key is None:
        raise ApiError(401, "invalid_key", "this key is not valid", headers=WRONG)
    if key.revoked_at is not None:
        raise ApiError(401, "key_revoked", "this key was revoked", headers=WRONG)
    if not key.is_usable(datetime.now(UTC)):
        raise ApiError(401, "key_expired", "this key has expired", headers=WRONG)
    _take_token(store, key)
    return Caller(key.tenant, f"key {key.id}", request_id), key.scope


def _without_key(store: Store, scheme: str, request_id: str, *, is_local: bool) -> Caller:
    """As long as no key was ever made, everybody on this machine is let in; other headers are not for us."""
    if store.keys.exist():
        if scheme.lower() == "bearer":
            raise ApiError(401, "invalid_key", "this is not a key of this service", headers=WRONG)
        message = "this needs a key: send `Authorization: Bearer KEY`"
        raise ApiError(401, "key_required", message, headers=CHALLENGE)
    if not is_local:
        message = "without keys, this server answers only to the machine that it runs on, under its own name"
        raise ApiError(403, "anonymous_refused", message)
    return Caller(actor="anonymous", request_id=request_id)


def _take_token(store: Store, key: KeyRow) -> None:
    if key.rate_per_s is None:
        return
    wait_s = store.keys.take(key, time.time())
    if wait_s:
        message = f"this key may send {key.rate_per_s:.4g} requests a second, {key.burst} at once"
        headers = {"Retry-After": str(math.ceil(wait_s))}
        raise ApiError(429, "rate_limited", message, headers=headers)


def _forbidden(message: str) -> ApiError:
    headers = {"WWW-Authenticate": 'Bearer realm="headstart", error="insufficient_scope"'}
    return ApiError(403, "insufficient_scope", message, headers=headers)


def _authorization(request: Request) -> str | None:
    """The Authorization header, its bytes as characters; several of them are not a request to guess at."""
    given = [value for name, value in request.scope["headers"] if name == b"authorization"]
    if len(given) > 1:
        message = f"expected one Authorization header, found {len(given)}"
        raise ApiError(400, "malformed_request", message, param="Authorization")
    return given[0].decode("latin-1") if given else None


def _is_local(request: Request) -> bool:
    """Whether a request comes from this machine, and not from a page of elsewhere in a browser on it.

    The address that was connected to is told by the socket; within a process, or on a Unix socket, there is
    none. A name in Host that only a foreign DNS can have led here, or another Origin, is of such a page.
    """
    server = request.scope.get("server") or ("", None)
    if not is_address(server[0]):
        return True
    host = request.headers.get("host", "")
    origin = request.headers.get("origin")
    is_own_page = origin is None or origin.partition("://")[2] == host
    return is_loopback(server[0]) and is_loopback(_name_of(host)) and is_own_page


def _name_of(host: str) -> str:
    """The name in a Host header, without its port and the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def started(request: Request) -> Engine:
    """The engine of this process, of no caller.

    Raises
    ------
    ApiError
        503: it is starting or stopping.
    """
    engine: Engine | None = request.app.state.engine
    if engine is None:
        raise ApiError(503, "not_ready", "the server is starting", headers={"Retry-After": "1"})
    return engine


def _operation(request: Request) -> str:
    return f"{request.method} {request.scope['route'].path}"


def _target(request: Request) -> str | None:
    named = [str(value) for name, value in request.path_params.items() if name in {"name", "job_id"}]
    return named[0][:MAX_TARGET].encode("ascii", "backslashreplace").decode() if named else None


def _note(store: Store, operation: str, target: str | None, code: str) -> None:
    with suppress(StoreError):
        store.audit.refused(operation, target, code)
        return
    logger.warning("not in the audit log: %s of %s was refused (%s)", operation, target, code)
