"""A server that is asked to stop: it finishes what it can, and no client holds it up."""

import http.client
import itertools
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from benchmarks.main_job import multipart
from benchmarks.server import STOP_TIMEOUT_S, Server, running
from tests.service.jobs.epochs import make_head, open_store

TIMEOUT_S = 2


@pytest.fixture
def server(lite0_folder: Path, tmp_path: Path) -> Iterator[Server]:
    settings = {"HEADSTART_SHUTDOWN_TIMEOUT_S": str(TIMEOUT_S)}
    with running(tmp_path, extractor=lite0_folder, settings=settings) as server:
        yield server


def begun(server: Server, method: str, path: str, part: bytes, length: int) -> http.client.HTTPConnection:
    """A connection with a request whose body has not come whole."""
    address = httpx.URL(server.url)
    connection = http.client.HTTPConnection(address.host, address.port, timeout=60)
    connection.putrequest(method, path)
    connection.putheader("Content-Length", str(length))
    connection.endheaders(part)
    return connection


def test_a_client_that_stalls_does_not_hold_up_the_end(server: Server) -> None:
    with closing(begun(server, "PUT", "/v1/heads/half", b"not all", 1000)):
        time.sleep(0.5)  # nothing tells when the server has read this much
        start = time.monotonic()
        server.stop()
        assert TIMEOUT_S - 1 < time.monotonic() - start < STOP_TIMEOUT_S / 2
    assert server.process.returncode == 0


@pytest.mark.timing
def test_a_batch_that_takes_too_long_is_given_up_and_leaves_nothing(
    server: Server, photos: dict[str, list[Path]]
) -> None:
    files = multipart([(label, path) for label, paths in photos.items() for path in paths])
    answers = []

    def teach() -> None:
        with server.client() as client:
            answers.append(client.put("/v1/heads/long", files=files))

    teaching = threading.Thread(target=teach)
    teaching.start()
    time.sleep(1.5)  # in the middle of embedding, which takes some ten seconds
    start = time.monotonic()
    server.stop()
    assert time.monotonic() - start < TIMEOUT_S + 5
    teaching.join()
    error = answers[0].json()["error"]
    assert (answers[0].status_code, error["code"]) == (500, "internal_error")
    with sqlite3.connect(server.home / "headstart.db") as database:
        for table in ("heads", "examples", "versions"):
            assert database.execute(f"select count(*) from {table}").fetchone() == (0,)


def test_under_load_every_request_that_was_sent_is_answered(
    server: Server, photos: dict[str, list[Path]]
) -> None:
    with server.client() as client:
        taught = [(label, path) for label, paths in photos.items() for path in paths[:5]]
        client.put("/v1/heads/pets", files=multipart(taught)).raise_for_status()
    address = httpx.URL(server.url)
    bodies = [path.read_bytes() for path in photos["cat"][:40]]
    answers: list[tuple[int, str | None]] = []
    failures: list[Exception] = []

    def ask(client: int) -> None:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=60)
        last = None
        for number in itertools.count():
            body = bodies[number % len(bodies)] + f"{client} {number}".encode()  # not cached
            try:
                connection.request("POST", "/v1/heads/pets/predict", body)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)
                return
            last = response.getheader("connection")
            answers.append((response.status, last))
            if last == "close":
                return

    clients = [threading.Thread(target=ask, args=(client,)) for client in range(8)]
    for thread in clients:
        thread.start()
    while len(answers) < 2 * len(clients):
        time.sleep(0.01)
    server.process.send_signal(signal.SIGTERM)
    for thread in clients:
        thread.join()
    server.process.wait(STOP_TIMEOUT_S)
    assert not failures
    assert {status for status, _ in answers} == {200}
    assert sum(connection == "close" for _, connection in answers) == len(clients)


def can_connect(server: Server) -> bool:
    address = httpx.URL(server.url)
    try:
        socket.create_connection((address.host, address.port)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_while_it_drains_all_is_answered_but_readyz(
    lite0_folder: Path, tmp_path: Path, photos: dict[str, list[Path]]
) -> None:
    settings = {"HEADSTART_WORKERS": "2", "HEADSTART_DRAIN_S": "2"}
    photo = photos["cat"][0].read_bytes()
    with running(tmp_path, extractor=lite0_folder, settings=settings) as server, server.client() as client:
        assert client.get("/readyz").headers.get("connection") != "close"
        slow = begun(server, "POST", "/v1/embeddings", photo[:-1], len(photo))
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        while (refused := client.get("/readyz")).status_code == 200:
            assert time.monotonic() < start + 1
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (503, "not_ready")
        assert error["message"] == "the server is stopping"
        while time.monotonic() < start + 1.5:
            answer = client.get("/v1/heads")
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            assert client.get("/livez").status_code == 200
        while can_connect(server):
            assert time.monotonic() < start + 3
        assert time.monotonic() >= start + 2
        assert server.process.poll() is None  # one request is still coming in
        slow.send(photo[-1:])
        assert slow.getresponse().status == 200
        server.process.wait(STOP_TIMEOUT_S)
    assert server.process.returncode == 0


def test_a_stream_of_events_is_ended_rather_than_cut_off(server: Server) -> None:
    with open_store(server.home) as store:
        make_head(store, "waiting")
        job = store.jobs.create("waiting", "epochs", {})
    with server.client() as client, client.stream("GET", f"/v1/jobs/{job.id}/events") as response:
        lines = response.iter_lines()
        while next(lines) != "event: state":
            pass
        server.process.send_signal(signal.SIGTERM)
        assert list(lines)[-1] == ""
    server.process.wait(STOP_TIMEOUT_S)
    assert server.process.returncode == 0
