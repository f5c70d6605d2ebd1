"""Load that goes on: switching versions fails no request and costs no time, and nothing grows.

`SOAK_S` is how long each of the parts takes (`make test-soak SOAK_S=1800` for half an hour).
"""

import itertools
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.processes import largest_resident_bytes, tree
from benchmarks.server import Server, running
from tests.service.api.conftest import photographs
from tests.service.images import png

SOAK_S = float(os.environ.get("SOAK_S", "22"))
PART_S = SOAK_S / 3
CLIENTS = 4
PAUSE_S = 0.02  # between the requests of a client, so that latency is that of requests, not of a queue
SWITCH_EVERY_S = 0.05
VERSIONS = 5
# Of the 99th percentile, on a machine that does other things too; a switch that reloaded more than a head, or
# made readers wait, would be far above it.
MOST_TIMES = 2.0
ALLOWANCE_MS = 15.0
MIB = 1024 * 1024
MOST_GROWTH = 1.10
MOST_GROWTH_BYTES = 24 * MIB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Server]:
    settings = {"HEADSTART_WORKERS": "2", "HEADSTART_LOG_LEVEL": "warning"}
    with running(tmp_path_factory.mktemp("home"), extractor=tiny_folder, settings=settings) as server:
        yield server


class Load:
    """Clients that predict for ever, what they saw and how long it took."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.versions: Counter[int] = Counter()
        self.latencies_ms: list[float] = []
        self.stop = threading.Event()

    def take(self) -> list[float]:
        taken, self.latencies_ms = self.latencies_ms, []
        return taken

    def predict(self, server: Server, name: str, seed: int) -> None:
        rng = random.Random(seed)
        with server.client() as client:
            while not self.stop.is_set():
                start_s = time.perf_counter()
                response = client.post(f"/v1/heads/{name}/predict", content=png(rng.randrange(64)))
                self.latencies_ms.append((time.perf_counter() - start_s) * 1e3)
                self.statuses[response.status_code] += 1
                if response.status_code == 200:
                    self.versions[response.json()["version"]] += 1
                time.sleep(PAUSE_S)


@contextmanager
def loaded(server: Server, name: str) -> Iterator[Load]:
    load = Load()
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(load.predict, server, name, seed) for seed in range(CLIENTS)]
        try:
            yield load
        finally:
            load.stop.set()
        for client in clients:
            client.result()


def p99(latencies_ms: list[float]) -> float:
    return float(np.percentile(latencies_ms, 99))


def switch(client: httpx.Client, until_s: float) -> int:
    """Publish versions forward and back; how often."""
    numbers = itertools.cycle([*range(1, VERSIONS + 1), *range(VERSIONS - 1, 1, -1)])
    for count in itertools.count():
        if time.monotonic() > until_s:
            return count
        response = client.post(f"/v1/heads/pets/versions/{next(numbers)}/publish")
        assert response.status_code == 200, response.text
        time.sleep(SWITCH_EVERY_S)
    raise AssertionError


def test_a_switch_fails_no_request_and_adds_no_latency(server: Server) -> None:
    with server.client() as client:
        assert client.put("/v1/heads/pets", files=photographs(0, 8)).status_code == 201
        for _ in range(VERSIONS - 1):
            assert client.post("/v1/heads/pets/train").status_code == 201
        with loaded(server, "pets") as load:
            time.sleep(PART_S / 3)
            load.take()
            time.sleep(PART_S)
            before = load.take()
            seen = dict(load.versions)
            switches = switch(client, time.monotonic() + PART_S)
            during = load.take()
            time.sleep(PART_S)
            after = load.take()
    figures = ", ".join(
        f"{name} {p99(part):.1f} ms ({len(part)} requests)"
        for name, part in (("before", before), ("during", during), ("after", after))
    )
    print(f"\n{switches} switches under load: p99 {figures}; answers {dict(load.statuses)}")
    assert set(load.statuses) == {200}
    assert set(seen) == {VERSIONS}
    assert set(load.versions) == set(range(1, VERSIONS + 1))
    assert p99(during) <= MOST_TIMES * max(p99(before), p99(after)) + ALLOWANCE_MS


def descriptors(server: Server) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in tree(server.process.pid))


def mixed(server: Server, name: str, seed: int, is_over: Callable[[], bool], seen: Counter[int]) -> None:
    """Everything a user does, for ever, to a head of one's own."""
    rng = random.Random(seed)
    with server.client() as client:
        while not is_over():
            examples = photographs(start := rng.randrange(10_000), start + 3)
            files = photographs(start + 3, start + 5)
            photograph = png(rng.randrange(2**24))
            for method, path, body in (
                ("PUT", "", {"files": examples}),
                ("POST", "/predict", {"content": photograph}),
                ("POST", "/examples", {"files": files}),
                ("POST", "/predict", {"content": photograph}),
                ("POST", "/train", {"headers": {"Idempotency-Key": str(rng.random())}}),
                ("POST", "/versions/1/publish", {}),
                ("GET", "/versions", {}),
                ("GET", "/export", {}),
                ("DELETE", "", {}),
            ):
                seen[client.request(method, f"/v1/heads/{name}{path}", **body).status_code] += 1  # type: ignore[arg-type]


def test_memory_and_descriptors_stay_flat(server: Server) -> None:
    seen: Counter[int] = Counter()
    end_s = time.monotonic() + SOAK_S
    samples: list[tuple[int, int]] = []
    with ThreadPoolExecutor(CLIENTS) as pool:
        jobs = [
            pool.submit(mixed, server, f"h{seed}", seed, lambda: time.monotonic() > end_s, seen)
            for seed in range(CLIENTS)
        ]
        # What is filled once (caches, connections, the allocator) is filled in the first third.
        time.sleep(SOAK_S / 3)
        while time.monotonic() < end_s:
            samples.append((largest_resident_bytes(server.process.pid), descriptors(server)))
            time.sleep(SOAK_S / 60)
        for job in jobs:
            job.result()
    third = max(1, len(samples) // 3)
    memory = [max(sample[0] for sample in part) for part in (samples[:third], samples[-third:])]
    files = [max(sample[1] for sample in part) for part in (samples[:third], samples[-third:])]
    print(
        f"\n{seen.total()} requests in {SOAK_S:.0f} s, answers {dict(seen)}; largest worker"
        f" {memory[0] / MIB:.0f} MiB, then {memory[1] / MIB:.0f} MiB; {files[0]} descriptors, then {files[1]}"
    )
    assert set(seen) <= {200, 201, 204}
    assert memory[1] <= MOST_GROWTH * memory[0] + MOST_GROWTH_BYTES
    assert files[1] <= files[0] + 8
