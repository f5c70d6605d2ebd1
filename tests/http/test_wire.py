"""What the HTTP server below the application refuses or offers by itself."""

import json
import socket

import httpx
import pytest

from benchmarks.server import Server

LINE = b"POST /v1/heads/pets/predict HTTP/1.1\r\nHost: x\r\n"
BROKEN = {
    "no HTTP": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "no host": b"GET /v1/heads HTTP/1.1\r\n\r\n",
    "a path that is not ASCII": "GET /v1/heads/é HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "two lengths": LINE + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
    "a negative length": LINE + b"Content-Length: -3\r\n\r\nabc",
    "a coding that is not known": LINE + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "a chunk without a size": LINE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "headers without end": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 100_000,
}


def exchange(server: Server, data: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer to bytes as they are; the server must close the connection."""
    url = httpx.URL(server.url)
    received = b""
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(data)
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:  # it closed before it had read everything
            pass
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_http_gets_the_one_error_shape(server: Server, kind: str) -> None:
    head, body = exchange(server, BROKEN[kind])
    assert head.startswith(b"HTTP/1.1 400 ")
    error = json.loads(body)["error"]
    assert (error["code"], error["param"]) == ("malformed_request", None)
    assert f"x-request-id: {error['request_id']}".encode() in head.lower()


def test_an_upgrade_that_is_not_offered_is_ignored(server: Server) -> None:
    upgrade = (
        b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    for path, status, code in (("/livez", 200, None), ("/v1/heads/nobody", 404, "head_not_found")):
        head, body = exchange(server, f"GET {path} HTTP/1.1\r\n".encode() + upgrade)
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert code is None or json.loads(body)["error"]["code"] == code
