"""Real processes that own a device: they live as long as their parent, and are started again."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.config import Settings
from service.devices.remote import DeviceRestartingError, RemoteDevice
from service.devices.settings import processes_of
from service.devices.supervisor import PACKAGES, Supervisor
from service.embedding.extractor import Extractor
from tests.service.images import png
from training.errors import DeviceError, ManifestError

TIMEOUT_S = 60


def supervisor_of(folder: Path, extractor: Path, **changes: object) -> Supervisor:
    settings = replace(Settings(extractor_process="always", home=folder), **changes)
    return Supervisor(folder / "devices", processes_of(settings), [extractor])


@pytest.fixture(scope="module")
def supervisor(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    supervisor = supervisor_of(tmp_path_factory.mktemp("home"), tiny_folder)
    supervisor.start()
    yield supervisor
    supervisor.close()


@pytest.fixture
def remote(supervisor: Supervisor) -> RemoteDevice:
    device = RemoteDevice.of(supervisor.folder)
    assert device is not None
    until(lambda: device.states())
    return device


def until(succeeds: Callable[[], object]) -> None:
    """Wait until something no longer raises a DeviceError."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            succeeds()
            return
        except DeviceError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} goes on"
        time.sleep(0.02)


def test_rows_come_from_another_process_that_only_we_may_reach(
    supervisor: Supervisor, remote: RemoteDevice, tiny_folder: Path
) -> None:
    plain, there = Extractor.load(tiny_folder), Extractor.load(tiny_folder, device=remote)
    images = [plain.decode(png(i)) for i in range(20)]
    np.testing.assert_allclose(there.embed(images), plain.embed(images), rtol=1e-5, atol=1e-5)
    there.close()
    (state,) = remote.states()
    assert [state["pid"]] == supervisor.pids
    assert state["pid"] != os.getpid()
    assert supervisor.folder.stat().st_mode & 0o777 == 0o700


def test_a_process_that_is_killed_under_load_is_started_again_and_nobody_hangs(
    supervisor: Supervisor, remote: RemoteDevice, tiny_folder: Path
) -> None:
    extractor = Extractor.load(tiny_folder, device=remote)
    image = extractor.decode(png(3))
    expected = extractor.embed([image])
    outcomes: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                np.testing.assert_array_equal(extractor.embed([image]), expected)
                outcomes.append("rows")
            except DeviceRestartingError:
                outcomes.append("restarting")
                time.sleep(0.01)

    askers = [threading.Thread(target=ask) for _ in range(8)]
    for asker in askers:
        asker.start()
    while outcomes.count("rows") < 50:
        time.sleep(0.01)
    (killed,) = supervisor.pids
    os.kill(killed, signal.SIGKILL)
    wait_for_end(killed)
    until(lambda: extractor.embed([image]))
    before = outcomes.count("rows")
    while outcomes.count("rows") < before + 50:
        time.sleep(0.01)
    stop.set()
    for asker in askers:
        asker.join(TIMEOUT_S)
        assert not asker.is_alive()
    assert set(outcomes) == {"rows", "restarting"}
    assert supervisor.pids != [killed]
    extractor.close()


def test_sigterm_ends_a_process_in_order_and_another_one_takes_its_place(
    supervisor: Supervisor, remote: RemoteDevice
) -> None:
    (before,) = supervisor.pids
    os.kill(before, signal.SIGINT)  # is for the API processes
    assert remote.states()[0]["pid"] == before
    os.kill(before, signal.SIGTERM)
    wait_for_end(before)
    until(lambda: remote.states())
    assert remote.states()[0]["pid"] != before


CLIENT = """
import sys, time
from pathlib import Path
from service.devices.frames import Header, Kind
from service.devices.remote import RemoteDevice, _Connection
from service.embedding.extractor import Extractor
device = RemoteDevice.of(Path(sys.argv[1]))
graph = Extractor.load(Path(sys.argv[2]), device=device).session.graph
connection = _Connection(device.addresses[0], graph)._socket
connection.sendall(Header(Kind.RUN, count=4, length=4 * 192).pack() + bytes(100))
print("sent", flush=True)
time.sleep(60)
"""


def test_a_worker_that_is_killed_in_the_middle_of_a_frame_harms_nobody(
    supervisor: Supervisor, remote: RemoteDevice, tiny_folder: Path
) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(supervisor.folder), str(tiny_folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PACKAGES)},
    )
    with worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"sent\n"
        worker.kill()
    extractor = Extractor.load(tiny_folder, device=remote)
    assert extractor.embed([extractor.decode(png(1))]).shape == (1, 16)
    (state,) = remote.states()
    assert [state["pid"]] == supervisor.pids
    extractor.close()


PARENT = """
import sys, time
from pathlib import Path
from tests.service.devices.test_supervisor import supervisor_of
supervisor = supervisor_of(Path(sys.argv[1]), Path(sys.argv[2]))
supervisor.start()
print(*supervisor.pids, flush=True)
time.sleep(60)
"""


def test_a_process_ends_with_its_parent_and_the_next_one_has_another_folder(
    tiny_folder: Path, tmp_path: Path
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), str(tiny_folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PACKAGES)},
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
    wait_for_end(pid)
    assert RemoteDevice.of(tmp_path / "devices") is not None  # the socket is left behind
    supervisor = supervisor_of(tmp_path, tiny_folder)
    supervisor.start()
    device = RemoteDevice.of(supervisor.folder)
    assert device is not None
    assert device.states()[0]["pid"] == supervisor.pids[0]
    supervisor.close()
    assert not is_running(supervisor.pids[0])
    assert not supervisor.folder.exists()


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    supervisor = supervisor_of(tmp_path, tmp_path / "nothing")
    with pytest.raises(ManifestError, match="headstart export nothing"):
        supervisor.start()
    assert not supervisor.folder.exists()


@pytest.mark.no_gpu
def test_a_process_without_its_gpu_says_why(tiny_folder: Path, tmp_path: Path) -> None:
    environment = {"HEADSTART_DEVICE": "cuda", "HEADSTART_HOME": str(tmp_path)}
    supervisor = Supervisor(tmp_path / "devices", [environment], [tiny_folder])
    with pytest.raises(DeviceError, match="HEADSTART_DEVICE=cpu"):
        supervisor.start()
