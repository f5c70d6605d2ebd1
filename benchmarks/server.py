"""A real server for tests and benchmarks: started on a free loopback port, stopped by its process id."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
EXTRACTOR = ROOT / ".headstart" / "extractors" / "efficientnet-lite0"
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30
POLL_S = 0.05


@dataclass(frozen=True)
class Server:
    """A served home folder; `environ` has the HEADSTART_ variables it was started with."""

    url: str
    home: Path
    process: subprocess.Popen[bytes]
    log: Path
    environ: Mapping[str, str]

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=600, trust_env=False)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        from prometheus_client.parser import text_string_to_metric_families

        with self.client() as client:
            text = client.get("/metrics").text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def stop(self) -> None:
        """Ask the server to finish, and wait until it has."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def start(home: Path, *, extractor: Path = EXTRACTOR, settings: Mapping[str, str] | None = None) -> Server:
    """Start `headstart serve` on a home folder and return when it is ready."""
    server = launch(home, extractor=extractor, settings=settings)
    wait_until_ready(server)
    return server


def launch(
    home: Path,
    *,
    extractor: Path = EXTRACTOR,
    settings: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Server:
    """Start `headstart serve` on a home folder.

    prefix : the command that runs the server's, such as one that enters a network namespace.
    """
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADSTART_")}
    own = {
        "HEADSTART_HOME": str(home),
        "HEADSTART_PORT": str(port),
        "HEADSTART_EXTRACTORS": str(extractor),
        **(settings or {}),
    }
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "service.cli", "serve"],
            cwd=ROOT,
            env=environ | own,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    address = own.get("HEADSTART_HOST", "127.0.0.1")
    return Server(f"http://{address}:{own['HEADSTART_PORT']}", home, process, log, own)


def wait_until_ready(server: Server) -> None:
    """Raises RuntimeError, with the end of the log, if it does not become ready."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            if httpx.get(server.url + "/readyz", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(POLL_S)
    if server.process.poll() is None:
        server.stop()
    raise RuntimeError(f"the server did not become ready:\n{server.log.read_text()[-4000:]}")


@contextmanager
def running(
    home: Path, *, extractor: Path = EXTRACTOR, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server for the length of a block."""
    server = start(home, extractor=extractor, settings=settings)
    try:
        yield server
    finally:
        server.stop()
