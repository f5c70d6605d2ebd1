"""A real server and real sockets: a client that posts far too much reads the 413, not a reset."""

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from service.config import Settings
from service.errors import ApiError
from service.ingest import LingeringClose, read_batch

SETTINGS = Settings(max_body_bytes=1 << 20)
UPLOAD_BYTES = 200 * 1000 * 1000
ANSWER_TIMEOUT_S = 60.0


async def echo(request: Request) -> JSONResponse:
    try:
        batch = await read_batch(request, SETTINGS, labelled=False)
    except ApiError as error:
        return JSONResponse(error.body("r"), error.status, headers=error.headers)
    return JSONResponse({"total": batch.total, "bytes": [len(item.data) for item in batch.inputs]})


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    app = LingeringClose(Starlette(routes=[Route("/{path:path}", echo, methods=["POST"])]))
    config = uvicorn.Config(app, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("upload") / "large.bin"
    with path.open("wb") as file:
        file.truncate(UPLOAD_BYTES)
    return path


def read_all(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read until the server closes, which raises if it resets instead."""
    received = b""
    while piece := connection.recv(1 << 16):
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


@pytest.mark.parametrize("framing", [f"Content-Length: {UPLOAD_BYTES}", "Transfer-Encoding: chunked"])
def test_a_client_that_writes_it_all_before_reading_sees_the_413(
    address: tuple[str, int], framing: str
) -> None:
    piece = bytes(1_000_000)
    if "chunked" in framing:
        piece = b"%x\r\n" % len(piece) + piece + b"\r\n"
    with socket.create_connection(address, timeout=ANSWER_TIMEOUT_S) as connection:
        connection.sendall(f"POST / HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
        for _ in range(UPLOAD_BYTES // 1_000_000):
            connection.sendall(piece)
        if "chunked" in framing:
            connection.sendall(b"0\r\n\r\n")
        status, headers, body = read_all(connection)
    assert status == 413
    assert headers["connection"] == "close"
    assert json.loads(body)["error"]["code"] == "body_too_large"


def test_a_length_over_the_limit_is_answered_before_the_body_is_sent(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=ANSWER_TIMEOUT_S) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n")
        assert b" 413 " in connection.recv(1 << 16)
        connection.shutdown(socket.SHUT_WR)
        read_all_left = connection.recv(1 << 16)
        while read_all_left:
            read_all_left = connection.recv(1 << 16)


@pytest.mark.parametrize("header", ["Expect: 100-continue", "Expect:", "Transfer-Encoding: chunked"])
def test_curl_sees_the_413(address: tuple[str, int], upload: Path, header: str) -> None:
    curl = shutil.which("curl")
    assert curl is not None, "this check needs curl"
    host, port = address
    command = [curl, "-sS", "-X", "POST", "-T", str(upload), "-H", header, "-w", "\n%{http_code}"]
    ran = subprocess.run(
        [*command, f"http://{host}:{port}/"],
        capture_output=True,
        text=True,
        timeout=ANSWER_TIMEOUT_S,
        check=False,
    )
    assert ran.stdout.endswith("\n413"), ran.stderr
    assert "body_too_large" in ran.stdout


def test_an_ordinary_request_keeps_its_connection(address: tuple[str, int]) -> None:
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    with socket.create_connection(address, timeout=ANSWER_TIMEOUT_S) as connection:
        for _ in range(2):
            connection.sendall(request)
            answer = connection.recv(1 << 16)
            while b'{"total":1,"bytes":[5]}' not in answer:
                answer += connection.recv(1 << 16)
            assert b" 200 " in answer
