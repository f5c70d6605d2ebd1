"""One connection: what a client may send, how long it may take, and how it ends when the server stops."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.http import protocol
from service.http.protocol import Protocol
from service.http.wire import install_protocol

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    await asyncio.sleep(0.3 if body == b"slow" else 0)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[uvicorn.Server]:
    monkeypatch.setattr(protocol, "SWEEP_EVERY_S", 0.05)
    install_protocol()
    config = uvicorn.Config(echo, port=0, http=Protocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = True
    thread.join()


@pytest.fixture
def connect(server: uvicorn.Server) -> Callable[[], socket.socket]:
    address = server.servers[0].sockets[0].getsockname()
    return lambda: socket.create_connection(address, timeout=5)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


@pytest.mark.parametrize("sent", [b"", b"POST / HT", REQUEST[:-2]])
def test_a_head_that_does_not_come_to_its_end_is_given_up(
    connect: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.2)
    with connect() as connection:
        connection.sendall(sent)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer


def test_a_body_that_pauses_is_given_up(
    connect: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "BODY_PAUSE_S", 0.2)
    with connect() as connection:
        connection.sendall(REQUEST + b"ab")
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_trickles_is_given_up(
    connect: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "BODY_PAUSE_S", 0.3)
    monkeypatch.setattr(protocol, "BODY_BYTES_PER_S", 1_000_000)
    start = time.monotonic()
    with connect() as connection:
        connection.sendall(REQUEST.replace(b"4", b"100"))
        connection.settimeout(0.05)
        answer = b""
        while not answer and time.monotonic() - start < 3:
            connection.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_slow_answer_is_not_a_slow_client(
    connect: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEAD_TIMEOUT_S", "BODY_PAUSE_S"):
        monkeypatch.setattr(protocol, name, 0.1)
    with connect() as connection:
        connection.sendall(REQUEST + b"slow")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_request_that_is_on_its_way_when_the_server_stops_is_answered(
    server: uvicorn.Server, connect: Callable[[], socket.socket]
) -> None:
    with connect() as fresh, connect() as used, connect() as busy:
        used.sendall(REQUEST + b"abcd")
        assert used.recv(65536).startswith(b"HTTP/1.1 200 ")
        busy.sendall(REQUEST + b"slow")
        time.sleep(0.1)
        server.should_exit = True
        time.sleep(0.2)  # uvicorn looks ten times a second
        for connection in (fresh, used):
            connection.sendall(REQUEST + b"abcd")
        for connection in (fresh, used, busy):
            answer = read_all(connection)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answer
