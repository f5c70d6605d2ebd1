"""A head is fine-tuned by a worker of its own while the server answers: no request fails, forth and back."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from benchmarks.main_job import multipart
from benchmarks.server import ROOT, Server

pytestmark = pytest.mark.long

PER_CLASS = 5
LONGEST_S = 300


@contextmanager
def asked_all_the_time(server: Server, name: str, photo: bytes) -> Iterator[list[tuple[int, int]]]:
    """Predictions, one after the other, for the length of a block: status and version of each."""
    answers: list[tuple[int, int]] = []
    stop = threading.Event()

    def ask() -> None:
        with server.client() as client:
            while not stop.is_set():
                response = client.post(f"/v1/heads/{name}/predict", content=photo)
                answers.append((response.status_code, response.json().get("version", 0)))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()


def work(server: Server) -> subprocess.Popen[bytes]:
    """A worker on the home of a server, until no job waits."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADSTART_")}
    served = server.environ
    return subprocess.Popen(
        [sys.executable, "-m", "service.cli", "worker", "--once"],
        cwd=ROOT,
        env=environ | served | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
    )


def wait_until_done(client: httpx.Client, job: str) -> dict:
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        found: dict = client.get(f"/v1/jobs/{job}").json()
        if found["state"] in ("succeeded", "failed", "cancelled"):
            return found
        time.sleep(0.2)
    raise AssertionError(f"job {job} did not end")


def test_no_request_fails_while_a_network_is_trained_published_and_taken_back(
    server: Server, client: httpx.Client, data_root: Path
) -> None:
    name = "cells"
    folders = sorted(path for path in (data_root / "blood_cells").iterdir() if path.is_dir())
    support = [(folder.name, path) for folder in folders for path in sorted(folder.iterdir())[:PER_CLASS]]
    photo = sorted(folders[0].iterdir())[-1].read_bytes()
    client.put(f"/v1/heads/{name}", files=multipart(support)).raise_for_status()
    body = {"strategy": "last-blocks", "keep": "stage6", "epochs": 2, "augment": False, "device": "cpu"}

    with asked_all_the_time(server, name, photo) as answers:
        queued = client.post(f"/v1/heads/{name}/finetune", json=body)
        assert queued.status_code == 202, queued.text
        job = queued.headers["Location"].rsplit("/", 1)[-1]
        worker = work(server)
        try:
            done = wait_until_done(client, job)
        finally:
            worker.wait(LONGEST_S)
        assert done["state"] == "succeeded", done
        result = done["result"]
        # Fifteen cells prove nothing, so the version waits.
        assert not result["published"]
        versions = f"/v1/heads/{name}/versions"
        while not answers:
            time.sleep(0.01)
        for number in (result["version"], 1):
            client.post(f"{versions}/{number}/publish").raise_for_status()
            seen = len(answers)
            while len(answers) < seen + 3:
                time.sleep(0.01)
            assert answers[-1] == (200, number)
    assert {status for status, _ in answers} == {200}
    assert len(answers) > 20

    events = client.get(f"/v1/jobs/{job}/events").text
    epochs = [
        json.loads(line.removeprefix("data: "))["epoch"]
        for block in events.split("\n\n")
        if "event: progress" in block
        for line in block.splitlines()
        if line.startswith("data: ")
    ]
    assert [epoch for epoch in epochs if epoch] == [1, 2]
    tuned = client.get("/v1/extractors").json()
    assert result["extractor"]["name"] in json.dumps(tuned)
    assert result["report"]["held_out"]["count"] == 3
