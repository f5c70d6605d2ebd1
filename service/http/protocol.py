"""HTTP/1.1 on one connection: uvicorn's fast parser, and what that one lets pass.

Knows what a request must have before any application is asked, how long a client may take to send it, and
how a connection ends when the server stops. Knows no route.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.errors import ApiError

MAX_HEAD_BYTES = 64 * 1024  # as much as most servers take
HEAD_TIMEOUT_S = 20.0  # from its first byte, or from the connection, to the end of the head
BODY_PAUSE_S = 30.0
BODY_BYTES_PER_S = 1024  # on average, once a body has taken longer than a pause may
SWEEP_EVERY_S = 1.0
# How long a connection without a request stays open when the server stops: one may be on its way.
PARTING_S = 0.5

MALFORMED = ApiError(400, "malformed_request", "this is not a valid HTTP request")
TOO_SLOW = ApiError(408, "request_timeout", "the request did not arrive in the time that it may take")

Clock = Callable[[], float]


class Protocol(HttpToolsProtocol):
    """One connection.

    The times are looked at for all connections together, once a second, so that a request costs no timer.
    `refusal` makes the bytes of an answer of an error; it is set before the first connection is made.
    While `is_draining`, each answer is the last of its connection: the next request may find another server.
    """

    refusal: Callable[[ApiError], bytes]
    clock: Clock = staticmethod(time.monotonic)
    is_draining = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_body = False
        self._parting = False
        # An idle connection that has been answered before is uvicorn's to close.
        self._head_since: float | None = self.clock()
        self._head_bytes = 0
        state: Any = self.server_state
        if not getattr(state, "is_swept", False):
            state.is_swept = True
            self.loop.call_later(SWEEP_EVERY_S, _sweep, self.loop, state, self.clock)

    def data_received(self, data: bytes) -> None:
        if self._in_body:
            self._last_at = self.clock()
            self._body_bytes += len(data)
        else:
            if self._head_since is None:
                self._head_since = self.clock()
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_body and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("")

    def on_headers_complete(self) -> None:
        _require_plain(self.headers, self.parser.get_http_version())
        super().on_headers_complete()
        self._in_body = True
        self._head_since = None
        self._body_since = self._last_at = self.clock()
        self._body_bytes = 0
        if self._parting or self.is_draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body = False
        self._head_bytes = 0

    def is_overdue(self, now: float) -> bool:
        """Whether the client has taken longer for the head or the body of a request than it may."""
        if not self._in_body:
            return self._head_since is not None and now - self._head_since > HEAD_TIMEOUT_S
        if self.flow.read_paused:  # it could not send, whatever it wished
            self._last_at = now
            return False
        allowed_s = BODY_PAUSE_S + self._body_bytes / BODY_BYTES_PER_S
        return now - self._last_at > BODY_PAUSE_S or now - self._body_since > allowed_s

    def send_400_response(self, _message: str) -> None:
        self._refuse(MALFORMED)

    def refuse_late(self) -> None:
        self._refuse(TOO_SLOW)

    def _refuse(self, error: ApiError) -> None:
        """Answer, unless an answer has begun, and close: nothing can be read from the connection any more."""
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            self.transport.write(self.refusal(error))
        self.transport.close()

    def shutdown(self) -> None:
        """The server stops: what has been asked is answered, and what is just on its way."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            return
        self._parting = True
        self.loop.call_later(PARTING_S, self._part)

    def _part(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def _require_plain(headers: Iterable[tuple[bytes, bytes]], version: str) -> None:
    """What the parser does not ask for. An error makes it refuse the request."""
    hosts = 0
    for name, value in headers:
        hosts += name == b"host"
        if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise ValueError("a transfer coding that is not known")
    if hosts != 1 and (hosts or version == "1.1"):
        raise ValueError(f"expected one Host header, found {hosts}")


def _sweep(loop: asyncio.AbstractEventLoop, state: Any, clock: Clock) -> None:
    now = clock()
    for connection in list(state.connections):
        if isinstance(connection, Protocol) and connection.is_overdue(now):
            connection.refuse_late()
    loop.call_later(SWEEP_EVERY_S, _sweep, loop, state, clock)
