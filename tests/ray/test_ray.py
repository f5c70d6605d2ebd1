"""`headstart embed --engine ray` on a local Ray of two cores: what is killed costs time and nothing else.

Run by `make test-ray`, and does what docs/guide/batches.md shows.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.processes import tree
from service.commands.folder import SOME_LEFT_OUT

pytest.importorskip("ray", reason="Ray is missing: run make test-ray")

IMAGES = int(os.environ.get("RAY_IMAGES", "320"))
START_TIMEOUT_S = 120
RUN_TIMEOUT_S = 200
POLL_S = 0.02
ACTOR = "ray::MapWorker"
TOKEN = "0123456789abcdef" * 4  # that the command and the other Ray share
CLUSTER = """
import os, sys
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
ray.init("local", num_cpus=2, include_dashboard=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def folder(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, one of them twice, and two files that are no images."""
    folder = tmp_path_factory.mktemp("images")
    for path in sorted((data_root / "cats_dogs").glob("*/*.jpg"))[:IMAGES]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "copy.jpg").write_bytes(path.read_bytes())
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "half.jpg").write_bytes(path.read_bytes()[:2000])
    return folder


@pytest.fixture(scope="module")
def local(folder: Path, lite0_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> "Run":
    """What the local engine makes of the folder."""
    run = Run(folder, lite0_folder, tmp_path_factory.mktemp("local"))
    run.start()
    return run.finished()


class Run:
    """The command on a home folder of its own."""

    def __init__(self, folder: Path, extractor: Path, home: Path) -> None:
        self._command = [sys.executable, "-m", "service.cli", "embed", str(folder), "--processes", "2"]
        self._environ = os.environ | {"HEADSTART_HOME": str(home), "HEADSTART_EXTRACTORS": str(extractor)}
        self.output = home / "rows.npz"
        self.cache = home / "cache" / "embeddings"
        self.process: subprocess.Popen[str]
        self.told = ""

    def start(self, *options: str) -> None:
        command = [*self._command, "--output", str(self.output), *options]
        self.process = subprocess.Popen(command, env=self._environ, stderr=subprocess.PIPE, text=True)

    def wait_until_some_are_kept(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not list(self.cache.glob("*/*.npz")):
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(POLL_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=START_TIMEOUT_S)

    def finished(self) -> "Run":
        self.told = self.process.communicate(timeout=RUN_TIMEOUT_S)[1]
        assert self.process.returncode == SOME_LEFT_OUT, self.told
        return self

    @property
    def cached(self) -> int:
        return int(self.told.split(" images, ")[1].split()[0])


@pytest.fixture
def run(folder: Path, lite0_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    run = Run(folder, lite0_folder, tmp_path)
    yield run
    if run.process.poll() is None:
        run.kill()


def expect_same(found: Run, expected: Run) -> None:
    with np.load(found.output) as ours, np.load(expected.output) as theirs:
        assert ours.files == theirs.files
        for name in ours.files:
            assert ours[name].tobytes() == theirs[name].tobytes(), name
    left_out = "2 images could not be used"
    assert left_out in found.told
    assert found.told.split(left_out)[1] == expected.told.split(left_out)[1]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def cluster() -> Iterator[str]:
    """The address of a Ray that is there before and after the command."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.communicate("", timeout=START_TIMEOUT_S)


def test_a_killed_worker_costs_nothing_but_time(run: Run, local: Run) -> None:
    run.start("--engine", "ray")
    run.wait_until_some_are_kept()
    processes = tree(run.process.pid)
    actors = [pid for pid in processes if command_line(pid).startswith(ACTOR)]
    assert len(actors) == 2
    (head,) = (pid for pid in processes if "gcs_server" in command_line(pid))
    assert b"RAY_USAGE_STATS_ENABLED=0" in Path(f"/proc/{head}/environ").read_bytes()
    os.kill(actors[0], signal.SIGKILL)
    expect_same(run.finished(), local)
    assert run.cached == 0
    assert not any(map(alive, processes))


def test_a_killed_command_goes_on_also_on_another_ray(run: Run, local: Run) -> None:
    run.start("--engine", "ray")
    run.wait_until_some_are_kept()
    actors = [pid for pid in tree(run.process.pid) if command_line(pid).startswith(ACTOR)]
    run.kill()
    assert not run.output.exists()
    deadline = time.monotonic() + START_TIMEOUT_S
    while any(map(alive, actors)):
        assert time.monotonic() < deadline
        time.sleep(POLL_S)
    with cluster() as address:
        run.start("--engine", "ray", "--address", address)
        expect_same(run.finished(), local)
    assert 64 <= run.cached < IMAGES
    run.start()
    assert run.finished().cached == IMAGES + 1


def test_a_ray_that_is_not_there_is_told_in_one_line(run: Run) -> None:
    run.start("--engine", "ray", "--address", "127.0.0.1:9")
    told = run.process.communicate(timeout=RUN_TIMEOUT_S)[1]
    assert run.process.returncode == 1, told
    assert "Error: no Ray answers at 127.0.0.1:9: " in told.splitlines()[-1]
    assert "Traceback" not in told
