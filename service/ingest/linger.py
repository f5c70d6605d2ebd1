"""Lets a client that is still sending its body read the error it was given.

A server that closes a connection with unread data resets it, and most clients then report the reset and
never read the answer. So the whole answer is sent first, and the rest of the body is read and dropped,
within bounds, before the connection closes (the "lingering close" of web servers).
Knows no route and no error; wraps an ASGI application from outside.
"""

from collections.abc import Mapping

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_LINGER_BYTES = 1 << 30
MAX_LINGER_S = 30.0
MAX_IDLE_S = 2.0
FIRST_ERROR_STATUS = 400


class LingeringClose:
    """ASGI middleware: after an error, drop the rest of the request body before the answer ends.

    Parameters
    ----------
    app : the application, which may answer before it has read the body.
    max_bytes : the most that is read and dropped.
    max_s : for how long at most, in seconds.
    max_idle_s : how long the client may pause, in seconds; one that waits for `100 Continue` is silent.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_bytes: int = MAX_LINGER_BYTES,
        max_s: float = MAX_LINGER_S,
        max_idle_s: float = MAX_IDLE_S,
    ) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_s = max_s
        self.max_idle_s = max_idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _has_body(dict(scope["headers"])):
            exchange = _Exchange(self, receive, send)
            await self.app(scope, exchange.receive, exchange.send)
        else:
            await self.app(scope, receive, send)


class _Exchange:
    def __init__(self, bounds: LingeringClose, receive: Receive, send: Send) -> None:
        self._bounds = bounds
        self._receive = receive
        self._send = send
        self._unread = True
        self._lingers = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._unread = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            # Without a Content-Length only the end of the stream tells the client that it has all.
            is_error = message["status"] >= FIRST_ERROR_STATUS
            self._lingers = is_error and b"content-length" in dict(message["headers"])
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not (last and self._lingers and self._unread):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._drop_body()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drop_body(self) -> None:
        dropped_bytes = 0
        with anyio.move_on_after(self._bounds.max_s):
            while self._unread and dropped_bytes < self._bounds.max_bytes:
                with anyio.move_on_after(self._bounds.max_idle_s) as pause:
                    dropped_bytes += len((await self.receive()).get("body", b""))
                if pause.cancelled_caught:
                    return


def _has_body(headers: Mapping[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
