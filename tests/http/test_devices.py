"""A server whose extractors run in a process of their own: that one may be killed, and so may all others."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import httpx
import pytest

from benchmarks.server import STOP_TIMEOUT_S, Server, running, start
from tests.service.conftest import tiny_extractor
from tests.service.images import png

pytestmark = pytest.mark.long

OWN_PROCESS = {"HEADSTART_EXTRACTOR_PROCESS": "always", "HEADSTART_WORKERS": "2"}
PATIENCE_S = 30


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_extractor(tmp_path_factory.mktemp("extractors") / "tiny")


@pytest.fixture(scope="module")
def server(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("home"), extractor=tiny, settings=OWN_PROCESS) as server:
        yield server


def device_pid(server: Server) -> int:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        response = httpx.get(server.url + "/readyz", timeout=PATIENCE_S, trust_env=False)
        if response.status_code == 200:
            (device,) = response.json()["devices"]
            return device["pid"]
        assert response.json()["error"]["code"] == "device_restarting"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        assert time.monotonic() < deadline, f"process {pid} goes on"
        time.sleep(0.02)


@contextmanager
def load(server: Server, clients: int = 4) -> Iterator[Counter[str]]:
    """Requests without a pause, and how many of them had which answer."""
    outcomes: Counter[str] = Counter()
    numbers, lock, stop = count(), threading.Lock(), threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=PATIENCE_S, trust_env=False) as client:
            while not stop.is_set():
                with lock:
                    data = png(next(numbers))
                try:
                    response = client.post("/v1/embeddings", content=data)
                except httpx.ConnectError:
                    return  # the server has ended
                except httpx.TransportError as error:
                    outcomes[type(error).__name__] += 1
                    continue
                told = "" if response.is_success else f" {response.json()['error']['code']}"
                assert response.is_success or "Retry-After" in response.headers
                outcomes[f"{response.status_code}{told}"] += 1

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a request hangs"


def test_a_killed_process_costs_503s_and_nothing_else(server: Server) -> None:
    before = device_pid(server)
    with load(server) as outcomes:
        while outcomes["200"] < 50:
            time.sleep(0.01)
        os.kill(before, signal.SIGKILL)
        wait_for_end(before)
        after = device_pid(server)
        done = outcomes["200"]
        while outcomes["200"] < done + 50:
            time.sleep(0.01)
    assert after != before
    assert set(outcomes) == {"200", "503 device_restarting"}
    assert server.metric("headstart_batch_images_count") > 0
    assert server.metric("headstart_device_queue_seconds_count") >= server.metric(
        "headstart_batch_images_count"
    )


def test_a_server_that_stops_under_load_answers_what_it_has_accepted_and_leaves_another_alone(
    server: Server, tiny: Path
) -> None:
    pid = device_pid(server)
    other = start(server.home, extractor=tiny, settings=OWN_PROCESS)
    pid_of_other = device_pid(other)
    with load(other) as outcomes:
        while outcomes["200"] < 50:
            time.sleep(0.01)
        other.stop()
    assert not any(outcome.startswith(("500", "503")) for outcome in outcomes), outcomes
    wait_for_end(pid_of_other)
    assert len(list((server.home / "run").glob("devices-*"))) == 1
    assert device_pid(server) == pid != pid_of_other


def test_the_process_ends_with_a_server_that_is_killed(tiny: Path, tmp_path: Path) -> None:
    server = start(tmp_path, extractor=tiny, settings=OWN_PROCESS)
    pid = device_pid(server)
    workers = [child for child in children(server.process.pid) if child != pid]
    server.process.kill()
    server.process.wait(STOP_TIMEOUT_S)
    wait_for_end(pid)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
