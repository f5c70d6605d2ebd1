"""After a 2xx, every worker and every server on the same database answers with the new state.

Many clients write and read at once, over connections that the system spreads over 4 processes on SQLite, and
over two servers on one PostgreSQL. What they see is checked against a model of what must be true.
"""

import os
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from benchmarks.server import running
from tests.service.api.conftest import photographs
from tests.service.images import png
from tests.service.store.postgres import running_postgres
from tests.store.history import History, State

OPERATIONS = int(os.environ.get("CONSISTENCY_OPERATIONS", "3000"))
LONGEST_S = float(os.environ.get("CONSISTENCY_S", "25"))
CLIENTS = 12
OWN_HEADS = 4  # each with one writer
SHARED_HEADS = 2  # all write them
FIRST_EXAMPLES = 4
PHOTOGRAPH = png(1234)
# Writers of a head that lose against others at every attempt are told so.
LOST = 409


class Clients:
    """Connections to every server, several to each, of which a request takes any."""

    def __init__(self, stack: ExitStack, urls: Sequence[str]) -> None:
        self._clients = [
            stack.enter_context(httpx.Client(base_url=url, timeout=120, trust_env=False))
            for url in urls
            for _ in range(CLIENTS)
        ]
        self.counts: Counter[str] = Counter()
        self.stop = threading.Event()
        self._until_s = time.monotonic() + LONGEST_S

    @property
    def is_over(self) -> bool:
        return self.stop.is_set() or self.counts.total() >= OPERATIONS or time.monotonic() > self._until_s

    def send(self, rng: random.Random, method: str, path: str, **body: object) -> httpx.Response:
        self.counts[method] += 1
        return rng.choice(self._clients).request(method, path, **body)  # type: ignore[arg-type]


def write_own(clients: Clients, name: str, history: History, rng: random.Random) -> None:
    """Create, extend, train, publish, roll back and delete a head that nobody else writes."""
    fresh = 0
    while not clients.is_over:
        now = history.now
        if now.versions is None:
            state = State(1, (1,), FIRST_EXAMPLES)
            files = photographs(fresh, fresh + FIRST_EXAMPLES // 2)
            call, status = ("PUT", f"/v1/heads/{name}", {"files": files}), 201
            fresh += FIRST_EXAMPLES
        else:
            call, status, state = _next(name, now, rng, fresh)
            fresh += 1
        with history.writing(state):
            response = clients.send(rng, call[0], call[1], **call[2])
            assert response.status_code == status, response.text


def _next(name: str, now: State, rng: random.Random, fresh: int) -> tuple[tuple[str, str, dict], int, State]:
    """A call, the status of its answer, and the state that it makes."""
    assert now.versions is not None
    assert now.examples is not None
    head = f"/v1/heads/{name}"
    newer = now.versions[0] + 1
    kind = rng.choice(("add", "train", "train", "publish", "publish", "delete"))
    if kind == "add":
        call = ("POST", f"{head}/examples", {"files": photographs(1000 + fresh, 1001 + fresh)})
        return call, 201, State(newer, (newer, *now.versions), now.examples + 2)
    if kind == "train":
        return ("POST", f"{head}/train", {}), 201, State(newer, (newer, *now.versions), now.examples)
    if kind == "publish" or len(now.versions) < 5:
        number = rng.choice(now.versions)
        state = State(number, now.versions, now.examples)
        return ("POST", f"{head}/versions/{number}/publish", {}), 200, state
    return ("DELETE", head, {}), 204, State()


def read_own(clients: Clients, name: str, history: History, rng: random.Random) -> None:
    """Read a head in one of the ways there are."""

    def predicted() -> int | None:
        response = clients.send(rng, "POST", f"/v1/heads/{name}/predict", content=PHOTOGRAPH)
        assert response.status_code in (200, 404), response.text
        return response.json()["version"] if response.status_code == 200 else None

    def described() -> tuple[int | None, int | None]:
        response = clients.send(rng, "GET", f"/v1/heads/{name}")
        assert response.status_code in (200, 404), response.text
        found = response.json()
        if response.status_code == 404:
            return None, None
        return found["published_version"], found["examples"]

    def listed() -> tuple[int, ...] | None:
        response = clients.send(rng, "GET", f"/v1/heads/{name}/versions", params={"limit": 1000})
        assert response.status_code in (200, 404), response.text
        if response.status_code == 404:
            return None
        rows = response.json()["versions"]
        assert [row["published"] for row in rows].count(True) == 1, rows
        return tuple(row["version"] for row in rows)

    kind = rng.choice(("predict", "predict", "describe", "list"))
    if kind == "predict":
        history.check(predicted, lambda state: state.published, f"{name}: predict")
    elif kind == "describe":
        history.check(described, lambda state: (state.published, state.examples), f"{name}: describe")
    else:
        history.check(listed, lambda state: state.versions, f"{name}: versions")


class Shared:
    """A head that all train at once: every success is a version of its own, the next one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.newest = 1
        self.made: list[int] = [1]
        self.lost = 0
        self._lock = threading.Lock()

    def train(self, clients: Clients, rng: random.Random) -> None:
        headers = {"Idempotency-Key": uuid.uuid4().hex}

        def send() -> httpx.Response:
            return clients.send(rng, "POST", f"/v1/heads/{self.name}/train", headers=headers)

        response = send()
        if response.status_code == LOST:
            with self._lock:
                self.lost += 1
            return
        assert response.status_code == 201, response.text
        version = response.json()["version"]
        with self._lock:
            self.made.append(version)
            self.newest = max(self.newest, version)
        if rng.random() < 0.3:
            again = send()
            assert again.content == response.content, again.text

    def read(self, clients: Clients, rng: random.Random) -> None:
        with self._lock:
            newest = self.newest
        response = clients.send(rng, "POST", f"/v1/heads/{self.name}/predict", content=PHOTOGRAPH)
        assert response.status_code == 200, response.text
        assert response.json()["version"] >= newest

    def check_at_the_end(self, clients: Clients, rng: random.Random) -> None:
        rows = clients.send(rng, "GET", f"/v1/heads/{self.name}/versions", params={"limit": 1000}).json()
        numbers = sorted(row["version"] for row in rows["versions"])
        assert sorted(self.made) == numbers[: len(self.made)] == list(range(1, len(numbers) + 1))


def interleave(urls: Sequence[str]) -> str:
    """Let all clients work at once, then check what is left; what was done, in words."""
    with ExitStack() as stack:
        clients = Clients(stack, urls)
        rng = random.Random(1)
        histories = {f"own{number}": History() for number in range(OWN_HEADS)}
        shared = [Shared(f"shared{number}") for number in range(SHARED_HEADS)]
        for head in shared:
            made = clients.send(rng, "PUT", f"/v1/heads/{head.name}", files=photographs(0, 2))
            assert made.status_code == 201, made.text
        start_s = time.monotonic()
        jobs: list[Callable[[random.Random], None]] = [
            lambda rng, name=name, history=history: write_own(clients, name, history, rng)  # type: ignore[misc]
            for name, history in histories.items()
        ]

        def roam(rng: random.Random) -> None:
            while not clients.is_over:
                if rng.random() < 0.6:
                    read_own(clients, *rng.choice(list(histories.items())), rng)
                elif rng.random() < 0.5:
                    rng.choice(shared).train(clients, rng)
                else:
                    rng.choice(shared).read(clients, rng)

        jobs += [roam] * (CLIENTS - OWN_HEADS)
        _run(jobs, clients)
        passed_s = time.monotonic() - start_s
        for head in shared:
            head.check_at_the_end(clients, rng)
        for name, history in histories.items():
            for _ in range(len(urls) * CLIENTS):
                read_own(clients, name, history, rng)
        writes = sum(len(history.states) - 1 for history in histories.values())
        reads = sum(history.reads for history in histories.values())
        versions = sum(len(head.made) for head in shared)
        lost = sum(head.lost for head in shared)
        return (
            f"{clients.counts.total()} operations in {passed_s:.0f} s: {writes} writes of heads with one"
            f" writer, {reads} reads checked against them, {versions} versions of heads that all write"
            f" ({lost} x 409)"
        )


def _run(jobs: Sequence[Callable[[random.Random], None]], clients: Clients) -> None:
    with ThreadPoolExecutor(len(jobs)) as pool:
        running_jobs = [pool.submit(job, random.Random(seed)) for seed, job in enumerate(jobs)]
        try:
            for job in running_jobs:
                job.result()
        finally:
            clients.stop.set()


@pytest.fixture
def one_server(tmp_path: Path, tiny_folder: Path) -> Iterator[list[str]]:
    with running(tmp_path, extractor=tiny_folder, settings={"HEADSTART_WORKERS": "4"}) as server:
        yield [server.url]


@pytest.fixture
def two_servers(tmp_path: Path, tiny_folder: Path) -> Iterator[list[str]]:
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        shared = {
            "HEADSTART_DATABASE_URL": postgres.create_database(),
            "HEADSTART_BLOB_URL": str(tmp_path / "blobs"),
            "HEADSTART_WORKERS": "1",
        }
        servers = [
            stack.enter_context(running(tmp_path / name, extractor=tiny_folder, settings=shared))
            for name in ("one", "two")
        ]
        yield [server.url for server in servers]


def test_four_workers_on_sqlite(one_server: list[str]) -> None:
    print(f"\n4 processes on SQLite: {interleave(one_server)}")


def test_two_servers_on_one_postgresql(two_servers: list[str]) -> None:
    print(f"\n2 servers on one PostgreSQL: {interleave(two_servers)}")
