"""Jobs over REST: pages, filters, cancelling, and events as a stream that a client can lose and find."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.api import create_app, end_streams
from service.config import Settings
from service.engine import Engine
from service.preparation import prepare
from service.store import JobProgress, JobRow, NewEvent, Store
from service.waiting.watching import Watchers
from tests.service.api.conftest import Teach, check
from tests.service.jobs.epochs import make_head

KIND = "epochs"
UNKNOWN = "0" * 32
PATIENCE_S = 20.0


def claimed(store: Store, *, lease_s: float = 60) -> JobRow:
    job = store.claims.claim(
        "worker", kinds=[KIND], lease_s=lease_s, max_attempts=3, is_gone=lambda name: False
    )
    assert job is not None
    return job


def report(store: Store, job: JobRow, epoch: int) -> None:
    event = NewEvent("progress", {"epoch": epoch})
    store.claims.report(job, JobProgress("train", epoch / 10, epoch, 10), [event])


@pytest.fixture
def store(app_engine: Engine) -> Store:
    return app_engine.store


@pytest.fixture
def job(store: Store, teach: Teach) -> JobRow:
    teach("shades")
    return store.jobs.create("shades", KIND, {"epochs": 3})


def test_a_job_is_described_as_it_is(client: TestClient, store: Store, job: JobRow) -> None:
    found = client.get(f"/v1/jobs/{job.id}").json()
    assert (found["id"], found["head"], found["kind"], found["state"]) == (job.id, "shades", KIND, "queued")
    assert found["options"] == {"epochs": 3}
    assert found["result"] is found["error"] is found["worker"] is found["started_at"] is None
    assert [warning["code"] for warning in found["warnings"]] == ["no_worker"]
    store.claims.seen("worker")
    assert client.get(f"/v1/jobs/{job.id}").json()["warnings"] == []
    running = claimed(store)
    report(store, running, 2)
    found = client.get(f"/v1/jobs/{job.id}").json()
    assert found["progress"] == {"fraction": 0.2, "stage": "train", "epoch": 2, "epochs": 10}
    assert (found["state"], found["attempts"], found["worker"]) == ("running", 1, "worker")
    store.claims.fail(running, "invalid_support_set", "too few")
    found = client.get(f"/v1/jobs/{job.id}").json()
    assert (found["state"], found["error"]) == (
        "failed",
        {"code": "invalid_support_set", "message": "too few"},
    )


def test_jobs_are_listed_newest_first_by_page_head_and_state(
    client: TestClient, store: Store, teach: Teach
) -> None:
    ids = []
    for name in ("a", "b", "a", "a"):
        if name not in {row["head"] for row in client.get("/v1/heads").json()["heads"]}:
            teach(name)
        ids.append(store.jobs.create(name, KIND, {}).id)
        store.claims.succeed(claimed(store), {"done": True})
    waiting = store.jobs.create("b", KIND, {}).id
    first = client.get("/v1/jobs", params={"limit": 2}).json()
    assert [row["id"] for row in first["jobs"]] == [waiting, ids[3]]
    rest = client.get("/v1/jobs", params={"cursor": first["next"]}).json()
    assert [row["id"] for row in rest["jobs"]] == [ids[2], ids[1], ids[0]]
    assert rest["next"] is None

    def listed(**query: str) -> list[str]:
        return [row["id"] for row in client.get("/v1/jobs", params=query).json()["jobs"]]

    assert listed(head="b") == [waiting, ids[1]]
    assert listed(head="b", state="queued") == [waiting]
    assert listed(state="failed") == []
    check(client.get("/v1/jobs", params={"head": "none"}), 404, "head_not_found")
    check(client.get("/v1/jobs", params={"state": "lost"}), 422, "invalid_parameter")


@pytest.mark.parametrize("call", ["", "/events", "/cancel"])
def test_a_job_that_is_not_there(client: TestClient, call: str) -> None:
    method = "POST" if call == "/cancel" else "GET"
    check(client.request(method, f"/v1/jobs/{UNKNOWN}{call}"), 404, "job_not_found")
    check(client.request(method, f"/v1/jobs/{'x' * 32}{call}"), 422, "invalid_parameter")


def test_cancelling_is_idempotent(client: TestClient, store: Store, job: JobRow) -> None:
    url = f"/v1/jobs/{job.id}/cancel"
    first = client.post(url)
    assert (first.status_code, first.json()["state"]) == (200, "cancelled")
    assert client.post(url).json() == first.json()
    again = store.jobs.create("shades", KIND, {})
    running = claimed(store)
    found = client.post(f"/v1/jobs/{again.id}/cancel").json()
    assert (found["state"], found["cancel_requested"]) == ("running", True)
    assert client.post(f"/v1/jobs/{again.id}/cancel").json() == found
    assert store.claims.renew(running, 60)
    store.claims.succeed(running, {})
    assert client.post(f"/v1/jobs/{again.id}/cancel").json()["state"] == "succeeded"


def test_a_job_whose_worker_is_silent_is_cancelled_at_once(
    client: TestClient, store: Store, job: JobRow
) -> None:
    claimed(store, lease_s=-1)
    assert client.post(f"/v1/jobs/{job.id}/cancel").json()["state"] == "cancelled"


def test_a_head_takes_its_jobs_with_it(client: TestClient, store: Store, job: JobRow) -> None:
    assert client.delete("/v1/heads/shades").status_code == 204
    check(client.get(f"/v1/jobs/{job.id}"), 404, "job_not_found")
    assert store.jobs.events(job.id) == []


def test_events_are_bounded_and_the_newest_are_kept(store: Store, job: JobRow) -> None:
    running = claimed(store)
    for first in range(0, 3000, 100):
        logs = [NewEvent("log", {"message": str(number)}) for number in range(first, first + 100)]
        store.claims.report(running, None, logs)
    store.claims.succeed(running, {})
    events = []
    while page := store.jobs.events(job.id, events[-1].seq if events else 0):
        events.extend(page)
    assert [event.data["message"] for event in events if event.kind == "log"] == [
        str(number) for number in range(2000, 3000)
    ]
    assert [event.data["state"] for event in events if event.kind == "state"] == [
        "queued",
        "running",
        "succeeded",
    ]


def parse(text: str) -> list[tuple[int, str, dict]]:
    """Id, kind and data of each event of a stream."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "event" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def test_the_events_of_a_job_that_has_ended_come_at_once(
    client: TestClient, store: Store, job: JobRow
) -> None:
    running = claimed(store)
    report(store, running, 1)
    store.claims.succeed(running, {})
    response = client.get(f"/v1/jobs/{job.id}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    events = parse(response.text)
    assert [(number, kind) for number, kind, _ in events] == [
        (1, "state"),
        (2, "state"),
        (3, "progress"),
        (4, "state"),
    ]
    assert events[2][2]["epoch"] == 1
    rest = client.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": "2"})
    assert parse(rest.text) == events[2:]
    assert client.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": "4"}).status_code == 204
    for bad in ("x", "-1", "1e400", str(2**63)):
        error = check(
            client.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": bad}), 422, "invalid_parameter"
        )
        assert error["param"] == "Last-Event-ID"


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application behind a real socket, which a client can close."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    wait_for(lambda: server.started)
    yield "http://{}:{}".format(*listener.getsockname())
    end_streams(app)
    server.should_exit = True
    thread.join()
    listener.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    prepare(settings)
    return create_app(settings)


@pytest.fixture
def address(app: FastAPI) -> Iterator[str]:
    with served(app) as address:
        yield address


@pytest.fixture
def live(app: FastAPI, address: str) -> Iterator[tuple[Store, JobRow, httpx.Client]]:
    """A running job of a served application."""
    store: Store = app.state.engine.store
    make_head(store, "shades")
    store.jobs.create("shades", KIND, {})
    with httpx.Client(base_url=address, timeout=PATIENCE_S, trust_env=False) as client:
        yield store, claimed(store), client


def test_a_stream_brings_news_and_goes_on_after_a_lost_connection(
    live: tuple[Store, JobRow, httpx.Client],
) -> None:
    store, job, client = live
    seen = []
    with client.stream("GET", f"/v1/jobs/{job.id}/events") as response:
        for line in response.iter_lines():
            if line.startswith("id: "):
                seen.append(int(line[4:]))
                if seen[-1] < 4:
                    report(store, job, seen[-1])
            if seen and seen[-1] == 4:
                break
    assert seen == [1, 2, 3, 4]
    report(store, job, 5)
    store.claims.succeed(job, {})
    rest = client.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": "4"})
    numbers = [number for number, _, _ in parse(rest.text)]
    assert (numbers[0], numbers[-1]) == (5, store.jobs.get(job.id).last_event)


def test_a_watcher_that_leaves_is_noticed_and_one_that_stays_hears_from_time_to_time(
    app: FastAPI, live: tuple[Store, JobRow, httpx.Client]
) -> None:
    _, job, client = live
    watchers: Watchers = app.state.engine.watchers
    watchers._silence_s = 0.2
    with client.stream("GET", f"/v1/jobs/{job.id}/events") as response:
        comments = (line for line in response.iter_lines() if line.startswith(":"))
        assert [next(comments), next(comments)] == [": nothing new"] * 2
        assert len(watchers) == 1
    wait_for(lambda: len(watchers) == 0)


def test_many_watchers_hold_no_thread_and_hear_the_end(
    app: FastAPI, live: tuple[Store, JobRow, httpx.Client]
) -> None:
    store, job, client = live
    watchers: Watchers = app.state.engine.watchers
    limits = httpx.Limits(max_connections=None)
    with (
        httpx.Client(base_url=client.base_url, timeout=PATIENCE_S, trust_env=False, limits=limits) as many,
        ThreadPoolExecutor(100) as pool,
    ):
        streams = [pool.submit(many.get, f"/v1/jobs/{job.id}/events") for _ in range(100)]
        wait_for(lambda: len(watchers) == 100)
        # The server's threads are forty: a request that needs one still gets it.
        assert client.get(f"/v1/jobs/{job.id}").json()["state"] == "running"
        store.claims.succeed(job, {})
        ends = [parse(stream.result().text)[-1][2]["state"] for stream in streams]
    assert ends == ["succeeded"] * 100
    assert len(watchers) == 0


def test_a_stream_ends_when_its_head_is_deleted_and_when_the_server_stops(
    app: FastAPI, live: tuple[Store, JobRow, httpx.Client]
) -> None:
    store, job, client = live
    assert kinds_until(client, job, 2, lambda: store.heads.delete("shades")) == ["state", "state"]
    make_head(store, "shades")
    other = store.jobs.create("shades", KIND, {})
    assert kinds_until(client, other, 1, lambda: end_streams(app)) == ["state"]


def kinds_until(client: httpx.Client, job: JobRow, number: int, end: Callable[[], object]) -> list[str]:
    """The kinds of the events of a stream, which something ends once so many have come."""
    kinds = []
    with client.stream("GET", f"/v1/jobs/{job.id}/events") as response:
        for line in response.iter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
                if len(kinds) == number:
                    end()
    return kinds


def test_a_worker_that_was_not_seen_for_long_does_not_count(store: Store, job: JobRow) -> None:
    store.claims.seen("worker")
    seen = store.jobs.worker_seen_at()
    assert seen is not None
    assert datetime.now(UTC) - seen < timedelta(seconds=PATIENCE_S)
    store.claims.leave("worker")
    assert store.jobs.worker_seen_at() is None
