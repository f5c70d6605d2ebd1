"""`Idempotency-Key`: a change that is sent again is made once, and its answer is given again.

Knows no route by name. The body is read before the work begins, as it is part of what makes two requests the
same; answers other than 2xx are not kept, because they changed nothing.
"""

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from email.message import Message as Header
from functools import partial
from typing import Any

import anyio
from anyio import to_thread
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.door import started
from service.access.scopes import is_write
from service.errors import ApiError
from service.schemas.openapi import errors
from service.store import KeptAnswer, Once, RequestInProgressError, Store, StoreError

logger = logging.getLogger("headstart.api")

HEADER = "Idempotency-Key"
HEADER_NAME = HEADER.lower().encode("ascii")
REPEATED_HEADER = "Idempotency-Replayed"
MAX_KEY_LENGTH = 255
ATTEMPT = "attempt"  # where a request's state has it
KEPT_HEADERS = ("content-type", "location")
# A crashed attempt holds its key for as long; a living one renews it well before.
LEASE_S = 30.0
RENEW_S = LEASE_S / 3
# How long an attempt waits for another one's answer before it is told to come back.
WAIT_S = 20.0
POLL_S = 0.05
SECONDS_PER_HOUR = 3600.0

PARAMETER = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "A name of your own for this request, such as a UUID: sent again with it, the request"
    " is not carried out twice but answered as before.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": "^[!-~]+$"},
}


class Repeated(Exception):  # noqa: N818 - no error: the answer is there already
    """Ends a request that was carried out before."""

    def __init__(self, answer: KeptAnswer) -> None:
        self.answer = answer


class Attempt:
    """One attempt at a request with a key: its body, read ahead, and its answer, kept before it is sent."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._ahead: deque[Message] = deque()
        self._store: Store | None = None
        self._once: Once | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._begun: Message | None = None
        self._body: list[bytes] = []

    async def read_ahead(self, max_bytes: int) -> list[bytes] | None:
        """The parts of the body; None if it is too large or incomplete, which the route will see itself."""
        received = 0
        more = True
        while more and received <= max_bytes:
            message = await self._receive()
            self._ahead.append(message)
            if message["type"] != "http.request":
                return None
            received += len(message.get("body", b""))
            more = message.get("more_body", False)
        return None if more else [message.get("body", b"") for message in self._ahead]

    def begin(self, store: Store, once: Once) -> None:
        """The key is this attempt's; hold it until the answer is there."""
        self._store, self._once = store, once
        self._renewing = asyncio.create_task(self._renew(store, once))

    async def receive(self) -> Message:
        return self._ahead.popleft() if self._ahead else await self._receive()

    async def send(self, message: Message) -> None:
        if self._once is None:
            await self._send(message)
        elif message["type"] == "http.response.start":
            self._begun = message
        else:
            self._body.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._answer()

    async def end(self) -> None:
        """Let go of the key, unless the request was carried out."""
        if self._renewing is not None:
            self._renewing.cancel()
        if self._store is not None and self._once is not None:
            with anyio.CancelScope(shield=True):
                await _tried(partial(self._store.idempotency.release, self._once))
            self._once = None

    async def _answer(self) -> None:
        if self._begun is None or self._store is None or self._once is None:
            raise RuntimeError("an answer that was not begun")
        body = b"".join(self._body)
        status: int = self._begun["status"]
        if status < 300:
            headers = Headers(raw=self._begun["headers"])
            kept = {name: headers[name] for name in KEPT_HEADERS if name in headers}
            with anyio.CancelScope(shield=True):
                await _tried(
                    partial(self._store.idempotency.finish, self._once, KeptAnswer(status, kept, body))
                )
        await self._send(self._begun)
        await self._send({"type": "http.response.body", "body": body})

    async def _renew(self, store: Store, once: Once) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            await _tried(partial(store.idempotency.renew, once, LEASE_S))


class OnceOnly:
    """ASGI middleware: gives every request with a key an `Attempt`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or HEADER_NAME not in dict(scope["headers"]):
            await self.app(scope, receive, send)
            return
        attempt = Attempt(receive, send)
        scope.setdefault("state", {})[ATTEMPT] = attempt
        try:
            await self.app(scope, attempt.receive, attempt.send)
        finally:
            await attempt.end()


async def carry_out_once(request: Request) -> None:
    """Let a request with a key go on only if it was not carried out before; after `admit`.

    Raises
    ------
    ApiError
        422: the header is no key.
    Repeated
        It was carried out: the answer it had.
    IdempotencyKeyReusedError, RequestInProgressError, AnswerLostError
    """
    attempt: Attempt | None = getattr(request.state, ATTEMPT, None)
    if attempt is None or not is_write(f"{request.method} {request.scope['route'].path}"):
        return
    engine = started(request)
    key = _key(request.headers)
    parts = await attempt.read_ahead(engine.settings.max_body_bytes)
    if parts is None:
        return
    caller = request.state.caller
    store = engine.store.of(caller)
    fingerprint = await to_thread.run_sync(_fingerprint, request, parts)
    keep_s = engine.settings.idempotency_hours * SECONDS_PER_HOUR
    found = await _claim(partial(store.idempotency.claim, key, fingerprint, lease_s=LEASE_S, keep_s=keep_s))
    if isinstance(found, KeptAnswer):
        raise Repeated(found)
    attempt.begin(store, found)
    request.state.caller = replace(caller, once=found)


def install_repeats(app: FastAPI) -> None:
    """Answer repeated requests, and tell of keys in the OpenAPI document."""

    @app.exception_handler(Repeated)
    async def repeat(request: Request, repeated: Repeated) -> Response:
        kept = repeated.answer
        return Response(kept.body, kept.status, {**kept.headers, REPEATED_HEADER: "true"})

    described = app.openapi

    def openapi() -> dict[str, Any]:
        is_new = app.openapi_schema is None
        document = described()
        if is_new:
            _declare(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _declare(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/v1/") and is_write(f"{method.upper()} {path}"):
                operation.setdefault("parameters", []).append(PARAMETER)
                for status, refusal in errors(409, 422).items():
                    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
                    described = {"description": refusal["description"], "content": content}
                    operation["responses"].setdefault(str(status), described)


def _key(headers: Headers) -> str:
    given = headers.getlist(HEADER)
    key = given[0]
    is_plain = key.isascii() and key.isprintable() and " " not in key
    if len(given) > 1 or not is_plain or not 0 < len(key) <= MAX_KEY_LENGTH:
        message = f"expected one {HEADER} of 1 to {MAX_KEY_LENGTH} visible ASCII characters"
        raise ApiError(422, "invalid_parameter", message, param=HEADER)
    return key


async def _claim(claim: "partial[Once | KeptAnswer]") -> Once | KeptAnswer:
    """Claim a key; where another attempt has it, wait for its answer."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        try:
            return await to_thread.run_sync(claim)
        except RequestInProgressError:
            if time.monotonic() > deadline_s:
                raise
        await anyio.sleep(POLL_S)


async def _tried(write: "partial[None]") -> None:
    try:
        await to_thread.run_sync(write)
    except StoreError as error:
        logger.warning("a request with an %s is not settled: %s", HEADER, error)


def _fingerprint(request: Request, parts: Iterable[bytes]) -> str:
    """sha256 of method, path, query, media type and body.

    Clients choose a new boundary of multipart bodies each time, so that it is left out.
    """
    header = Header()
    header["Content-Type"] = request.headers.get("content-type", "")
    scope = request.scope
    path = scope.get("raw_path") or scope["path"].encode()
    boundary = header.get_boundary("").encode("latin-1", "replace")
    digest = hashlib.sha256()
    for part in (scope["method"].encode(), path, scope["query_string"], header.get_content_type().encode()):
        digest.update(b"%d:%s" % (len(part), part))
    for part in _without(boundary, parts):
        digest.update(part)
    return digest.hexdigest()


def _without(mark: bytes, parts: Iterable[bytes]) -> Iterator[bytes]:
    """A text in parts, without a mark that may lie across them."""
    if not mark:
        yield from parts
        return
    rest = b""
    for part in parts:
        *whole, last = (rest + part).split(mark)
        yield from whole
        keep = len(mark) - 1
        rest = last[-keep:] if keep else b""
        yield last[: len(last) - len(rest)]
    yield rest
