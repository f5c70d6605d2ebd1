"""The parent's side of the processes that own a device: starts one each, and again when one has ended.

Each is started with a socket as its standard input, whose other end the parent holds: the process tells on it
when it is ready, and ends when it ends, however the parent died. Knows nothing of what the processes do.
"""

import atexit
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.config import Settings
from service.devices.address import Address
from service.devices.remote import RemoteDevice
from service.devices.settings import processes_of
from training.errors import DeviceError, ManifestError

logger = logging.getLogger("headstart.devices")

PACKAGES = Path(__file__).resolve().parents[2]
END_TIMEOUT_S = 15.0
# A process that ended soon after its start is started again after a pause, twice as long each time.
SOON_S = 30.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


def start_processes(settings: Settings, folder: Path, metrics: Path) -> RemoteDevice | None:
    """Start a process for each device, if the settings want that, until this process ends.

    Parameters
    ----------
    folder : of their sockets.
    metrics : where all processes of the server share their metrics.

    Returns
    -------
    The devices; None if every API process has what the settings say, see `without_process`.

    Raises
    ------
    DeviceError, ManifestError, OSError
        A process cannot be; the message says what to do.
    """
    environments = processes_of(settings)
    if not environments:
        return None
    extractors = [settings.extractor_folder(name).absolute() for name in settings.extractors]
    shared = {"PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    supervisor = Supervisor(folder, [{**own, **shared} for own in environments], extractors)
    try:
        supervisor.start()
    except DeviceError as error:
        if settings.device != "auto" or settings.extractor_process == "always":
            raise
        logger.warning("HEADSTART_DEVICE=auto: running on the CPU: %s", error)
        return None
    atexit.register(supervisor.close)
    return RemoteDevice.of(folder)


@dataclass
class Supervisor:
    """The processes of one server.

    Parameters
    ----------
    folder : of their sockets; made, and removed at the end.
    environments : what the environment of each says beyond that of this process.
    extractors : folders of the extractors that each loads.
    """

    folder: Path
    environments: Sequence[Mapping[str, str]]
    extractors: Sequence[Path]
    _watched: list["_Watched"] = field(default_factory=list, init=False)

    def start(self) -> None:
        """Start the processes and wait until they are ready.

        Raises
        ------
        DeviceError, ManifestError, OSError
            One cannot be; the others are ended.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, mode=0o700)
        for index, environment in enumerate(self.environments):
            address = Address.of(self.folder, index)
            arguments = [str(address.path), *map(str, self.extractors)]
            self._watched.append(_Watched(arguments, _environ(environment)))
        try:
            # All at once: each may take minutes, where TensorRT builds engines.
            for watched in self._watched:
                watched.begin()
            for watched in self._watched:
                watched.await_ready()
            for watched in self._watched:
                watched.watch()
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Process ids, in the order of the devices."""
        return [watched.pid for watched in self._watched]

    def close(self) -> None:
        """End the processes and wait until they have."""
        for watched in self._watched:
            watched.end()
        for watched in self._watched:
            watched.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _environ(own: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process: that of this one, and where it finds the packages of this one."""
    paths = [str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **own}


class _Watched:
    """One process, through all its lives."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self._arguments = [sys.executable, "-m", "service.device_process", *arguments]
        self._environ = dict(environ)
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes]
        self._socket: socket.socket
        self._thread = threading.Thread(target=self._watch, name="devices", daemon=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def begin(self) -> None:
        """Start it; it is not ready yet."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            if self._ending.is_set():
                ours.close()
                return
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, no shell
                self._arguments,
                env=self._environ,
                stdin=theirs.fileno(),
                start_new_session=True,  # Ctrl-C is for the API processes, which need it to the last
            )
            self._socket = ours

    def await_ready(self) -> None:
        """Wait until it is ready.

        Raises
        ------
        DeviceError, ManifestError
            It cannot be.
        """
        with self._socket.makefile("rb") as lines:
            told = json.loads(lines.readline() or b"{}")
        if "ready" in told:
            return
        message = told.get("message", "the process of the device ended before it was ready")
        raise (ManifestError if told.get("error") == ManifestError.code else DeviceError)(message)

    def watch(self) -> None:
        """Start it again, from now on, whenever it ends."""
        self._thread.start()

    def end(self) -> None:
        """Let it end."""
        with self._lock:
            self._ending.set()
            if hasattr(self, "_socket"):
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    return  # it has ended already

    def wait(self) -> None:
        """Wait until it has ended."""
        if self._thread.is_alive():
            self._thread.join()
        if hasattr(self, "_process"):
            self._reap()
            self._socket.close()

    def _watch(self) -> None:
        pause_s, started_at = FIRST_PAUSE_S, time.monotonic()
        while True:
            self._await_end()
            if self._ending.is_set():
                return
            code = self._reap()
            logger.error("the process of a device (%d) has ended (%d); starting another", self.pid, code)
            lived_s = time.monotonic() - started_at
            pause_s = FIRST_PAUSE_S if lived_s > SOON_S else min(2 * pause_s, LONGEST_PAUSE_S)
            if self._ending.wait(pause_s):
                return
            started_at = time.monotonic()
            self._socket.close()
            self.begin()
            try:
                self.await_ready()
            except (DeviceError, ManifestError, OSError) as error:
                logger.error("the process of a device could not start: %s", error)
            else:
                logger.info("the process of a device is ready again (%d)", self.pid)

    def _await_end(self) -> None:
        try:
            while self._socket.recv(1024):
                pass
        except OSError:
            return

    def _reap(self) -> int:
        try:
            return self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
