"""A server that is asked to stop: it finishes what it can, and no client holds it up."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.server import STOP_TIMEOUT_S, Server, running

TIMEOUT_S = 2


@pytest.fixture
def server(lite0_folder: Path, tmp_path: Path) -> Iterator[Server]:
    settings = {"HEADSTART_SHUTDOWN_TIMEOUT_S": str(TIMEOUT_S)}
    with running(tmp_path, extractor=lite0_folder, settings=settings) as server:
        yield server


def test_a_client_that_stalls_does_not_hold_up_the_end(server: Server) -> None:
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port)) as stalled:
        stalled.sendall(b"PUT /v1/heads/half HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nnot all")
        time.sleep(0.5)  # nothing tells when the server has read this much
        start = time.monotonic()
        server.stop()
        assert TIMEOUT_S - 1 < time.monotonic() - start < STOP_TIMEOUT_S / 2
    assert server.process.returncode == 0
