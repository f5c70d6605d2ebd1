"""The answers of the HTTP server itself, in the one shape of errors, and the word that it is to stop.

uvicorn answers in plain text where no application is asked: to what is no HTTP, and for a request that was
given up. It tells applications that it stops only after the last answer has ended, which one that waits for
news never does. BentoML configures uvicorn and offers no other way to change that. Knows uvicorn; knows no
route.
"""

import signal
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Server
from uvicorn.protocols.http import auto, httptools_impl

from service.errors import ApiError
from service.http.envelope import REQUEST_ID_HEADER, SECURITY_HEADERS, error_answer, new_request_id
from service.http.protocol import Protocol

GIVEN_UP = ApiError(500, "internal_error", "the request was not answered: the server is stopping or failed")


def install_protocol() -> None:
    """Make uvicorn, in this process, speak HTTP by `Protocol` and answer in the one shape."""
    Protocol.refusal = staticmethod(_refusal)
    protocols: Any = auto
    protocols.AutoHTTPProtocol = Protocol
    cycle: Any = httptools_impl.RequestResponseCycle
    cycle.send_500_response = _give_up


def install_stop_signal(begin: Callable[[], None], end: Callable[[], None], *, drain_s: float) -> None:
    """Let uvicorn in this process go on for a while after SIGTERM, so that balancers look elsewhere first.

    A second signal, or Ctrl-C, ends the wait.

    Parameters
    ----------
    begin : called at the first signal. It must not block.
    end : called when uvicorn is to stop, from any thread. It must not block.
    drain_s : how long it goes on, in seconds.
    """
    server: Any = Server
    handle_exit = server.handle_exit

    def stop(self: Server, number: int, frame: Any) -> None:
        end()
        handle_exit(self, number, frame)

    def handle(self: Server, number: int, frame: Any) -> None:
        is_first = not Protocol.is_draining
        Protocol.is_draining = True
        begin()
        if is_first and drain_s and number == signal.SIGTERM:
            waiting = threading.Timer(drain_s, stop, (self, number, None))
            waiting.daemon = True
            waiting.start()
        else:
            stop(self, number, frame)

    server.handle_exit = handle


class NoUpgrade:
    """ASGI middleware: a WebSocket handshake is answered as if it had not asked for one (RFC 9110, 7.8)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return

        async def no_body() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send_refusal(message: Any) -> None:
            await send({**message, "type": f"websocket.{message['type']}"})

        await receive()  # websocket.connect
        await self.app({**scope, "type": "http", "method": "GET"}, no_body, send_refusal)


def _answer(error: ApiError) -> Response:
    request_id = new_request_id()
    answer = error_answer(error, request_id)
    answer.headers.update({REQUEST_ID_HEADER: request_id, "Connection": "close", **SECURITY_HEADERS})
    return answer


def _refusal(error: ApiError) -> bytes:
    answer = _answer(error)
    lines = [b"HTTP/1.1 %d %s" % (answer.status_code, HTTPStatus(answer.status_code).phrase.encode())]
    lines += [name + b": " + value for name, value in answer.raw_headers]
    return b"\r\n".join([*lines, b"", bytes(answer.body)])


async def _give_up(cycle: Any) -> None:
    """Replaces `send_500_response`."""
    await _answer(GIVEN_UP)(cycle.scope, cycle.receive, cycle.send)
