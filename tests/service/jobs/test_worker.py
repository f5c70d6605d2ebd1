"""Worker processes and their jobs: killed, stopped, cancelled, several at once. Nothing runs twice."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.store import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, JobRow, JobState, Store
from tests.service.jobs.epochs import LEASE_S, MAX_ATTEMPTS, open_store, queue

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 30.0

StartWorker = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as store:
        yield store


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartWorker]:
    """Start worker processes; those that still live at the end are killed."""
    started = []

    def start(*options: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.service.jobs.epochs", str(tmp_path), *options]
        with (tmp_path / "worker.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, stderr=log)
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def wait_for_state(store: Store, job: JobRow, state: JobState) -> JobRow:
    wait_for(lambda: store.jobs.get(job.id).state == state)
    return store.jobs.get(job.id)


def wait_for_epoch(store: Store, job: JobRow, epoch: int) -> None:
    wait_for(lambda: (store.jobs.get(job.id).epoch or 0) >= epoch)


def begun(home: Path) -> Counter[str]:
    """How often each epoch of each job was begun."""
    return Counter((home / "diary").read_text().splitlines())


def states(store: Store, job: JobRow) -> list[str]:
    return [event.data["state"] for event in store.jobs.events(job.id) if event.kind == "state"]


def test_a_job_is_carried_out_and_leaves_no_folder(store: Store, start: StartWorker, tmp_path: Path) -> None:
    job = queue(store, "pets", epochs=4)
    assert (job.state, job.worker, job.attempts) == (QUEUED, None, 0)
    assert start("--once").wait(PATIENCE_S) == 0
    done = store.jobs.get(job.id)
    assert (done.state, done.result, done.error) == (SUCCEEDED, {"epochs": 4, "attempt": 1}, None)
    assert (done.fraction, done.stage, done.epoch, done.epochs) == (1.0, "train", 4, 4)
    assert done.started_at is not None
    assert done.finished_at is not None
    assert done.created_at <= done.started_at <= done.finished_at
    events = store.jobs.events(job.id)
    assert [event.seq for event in events] == list(range(1, done.last_event + 1))
    assert [event.kind for event in events] == ["state", "state", "log", *["progress"] * 4, "state"]
    assert events[3].data["figures"] == {"loss": 1.0, "rate": None}
    assert states(store, job) == [QUEUED, RUNNING, SUCCEEDED]
    assert not list((tmp_path / "jobs").iterdir())
    assert not list((tmp_path / "run").iterdir())
    assert store.jobs.worker_seen_at() is None


def test_a_killed_worker_is_replaced_at_once_and_no_epoch_is_repeated(
    store: Store, start: StartWorker, tmp_path: Path
) -> None:
    job = queue(store, "pets", epochs=5, epoch_s=0.3)
    first = start()
    wait_for_epoch(store, job, 2)
    first.kill()
    first.wait()
    killed = time.monotonic()
    start("--once")
    wait_for(lambda: store.jobs.get(job.id).attempts == 2)
    assert time.monotonic() - killed < LEASE_S * 2  # the start of a process included
    assert wait_for_state(store, job, SUCCEEDED).result == {"epochs": 5, "attempt": 2}
    counts = begun(tmp_path)
    assert {line.split()[1] for line in counts} == {"1", "2", "3", "4", "5"}
    # Only the epoch in which it was killed was begun twice.
    assert sum(counts.values()) <= 6
    assert counts[f"{job.id} 1"] == counts[f"{job.id} 2"] == 1


def test_a_worker_that_hangs_loses_its_job_and_lets_go_of_it(
    store: Store, start: StartWorker, tmp_path: Path
) -> None:
    job = queue(store, "pets", epochs=4, epoch_s=0.5)
    first = start()
    wait_for_epoch(store, job, 1)
    first.send_signal(signal.SIGSTOP)
    stopped = datetime.now(UTC)
    start()
    wait_for(lambda: store.jobs.get(job.id).attempts == 2)
    # The process is there and its lock is held: only the lease tells.
    second = [event for event in store.jobs.events(job.id) if event.data.get("attempt") == 2]
    assert second[0].at > stopped + timedelta(seconds=LEASE_S / 2)
    first.send_signal(signal.SIGCONT)
    done = wait_for_state(store, job, SUCCEEDED)
    assert done.attempts == 2
    assert states(store, job) == [QUEUED, RUNNING, RUNNING, SUCCEEDED]
    first.terminate()
    assert first.wait(PATIENCE_S) == 0


def test_two_workers_carry_out_each_of_twenty_jobs_once(
    store: Store, start: StartWorker, tmp_path: Path
) -> None:
    jobs = [queue(store, f"head{number}", epochs=2, epoch_s=0.02) for number in range(20)]
    workers = [start("--once"), start("--once")]
    assert [worker.wait(PATIENCE_S) for worker in workers] == [0, 0]
    assert {store.jobs.get(job.id).state for job in jobs} == {SUCCEEDED}
    assert set(begun(tmp_path).values()) == {1}
    assert len(begun(tmp_path)) == 40
    by = Counter(
        event.data["worker"]
        for job in jobs
        for event in store.jobs.events(job.id)
        if event.data.get("state") == RUNNING
    )
    assert sum(by.values()) == 20


def test_sigterm_lets_the_epoch_end_and_queues_the_job_again(
    store: Store, start: StartWorker, tmp_path: Path
) -> None:
    job = queue(store, "pets", epochs=3, epoch_s=0.6)
    worker = start()
    wait_for_epoch(store, job, 1)
    worker.terminate()
    assert worker.wait(PATIENCE_S) == 0
    waiting = store.jobs.get(job.id)
    assert (waiting.state, waiting.worker, waiting.attempts, waiting.epoch) == (QUEUED, None, 0, 2)
    assert (tmp_path / "jobs" / job.id / "epoch").read_text() == "2"
    assert start("--once").wait(PATIENCE_S) == 0
    assert store.jobs.get(job.id).state == SUCCEEDED
    assert set(begun(tmp_path).values()) == {1}
    assert states(store, job) == [QUEUED, RUNNING, QUEUED, RUNNING, SUCCEEDED]


def test_an_idle_worker_ends_at_once(store: Store, start: StartWorker) -> None:
    worker = start()
    wait_for(lambda: store.jobs.worker_seen_at() is not None)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(PATIENCE_S) == 0
    assert store.jobs.worker_seen_at() is None


def test_a_queued_job_is_cancelled_at_once_and_never_run(
    store: Store, start: StartWorker, tmp_path: Path
) -> None:
    job = queue(store, "pets")
    assert store.jobs.cancel(job.id).state == CANCELLED
    again = store.jobs.cancel(job.id)
    assert again == store.jobs.get(job.id)
    start("--once").wait(PATIENCE_S)
    assert store.jobs.get(job.id) == again
    assert not (tmp_path / "diary").exists()


def test_a_running_job_is_cancelled_within_the_epoch(
    store: Store, start: StartWorker, tmp_path: Path
) -> None:
    job = queue(store, "pets", epochs=2, epoch_s=PATIENCE_S)
    start()
    wait_for_state(store, job, RUNNING)
    asked = store.jobs.cancel(job.id)
    assert (asked.state, asked.cancel_requested) == (RUNNING, True)
    again = store.jobs.cancel(job.id)  # the worker may have told of an event meanwhile
    assert replace(again, last_event=asked.last_event) == asked
    wait_for_state(store, job, CANCELLED)
    wait_for(lambda: not list((tmp_path / "jobs").iterdir()))


def test_a_job_whose_worker_dies_each_time_fails_in_the_end(store: Store, start: StartWorker) -> None:
    job = queue(store, "pets", epochs=1, epoch_s=PATIENCE_S)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        worker = start()
        wait_for(lambda expected=attempt: store.jobs.get(job.id).attempts == expected)  # type: ignore[misc]
        worker.kill()
        worker.wait()
    other = queue(store, "other")
    assert start("--once").wait(PATIENCE_S) == 0
    failed = store.jobs.get(job.id)
    assert failed.state == FAILED
    assert failed.error is not None
    assert failed.error["code"] == "attempts_exhausted"
    assert "3 times" in failed.error["message"]
    assert store.jobs.get(other.id).state == SUCCEEDED


def test_a_job_that_cannot_be_done_fails_with_its_own_error(store: Store, start: StartWorker) -> None:
    expected = queue(store, "pets", raises="expected")
    unforeseen = queue(store, "cars", raises="a secret")
    assert start("--once").wait(PATIENCE_S) == 0
    assert store.jobs.get(expected.id).error == {
        "code": "invalid_support_set",
        "message": "too few of everything",
    }
    error = store.jobs.get(unforeseen.id).error
    assert error is not None
    assert error["code"] == "internal_error"
    assert "secret" not in error["message"]


def test_a_job_goes_with_its_head_while_it_runs(store: Store, start: StartWorker, tmp_path: Path) -> None:
    job = queue(store, "pets", epochs=2, epoch_s=PATIENCE_S)
    other = queue(store, "cars")
    start()
    wait_for_state(store, job, RUNNING)
    store.heads.delete("pets")
    assert store.jobs.events(job.id) == []
    wait_for_state(store, other, SUCCEEDED)
    wait_for(lambda: not list((tmp_path / "jobs").iterdir()))


def test_a_process_id_that_was_given_anew_does_not_mislead(
    store: Store, start: StartWorker, tmp_path: Path
) -> None:
    from service.jobs import Presence

    with Presence(tmp_path) as living, Presence(tmp_path) as other:
        assert not other.is_gone(living.name)
        host, _, token = living.name.split(":")
        # This process lives; the worker of another token does not hold a lock here, and has no file.
        assert not other.is_gone(f"{host}:{os.getpid()}:{'0' * 32}")
        assert not other.is_gone(f"elsewhere:{os.getpid()}:{token}")
        assert not other.is_gone(f"{host}:{os.getpid()}:../../{token}")
        left = tmp_path / "run" / f"worker-{'1' * 32}"
        left.touch()
        assert other.is_gone(f"{host}:{os.getpid()}:{'1' * 32}")
        other.sweep()
        assert not left.exists()
