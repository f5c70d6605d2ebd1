"""The image, built once from this checkout, and containers of it that are gone after their test."""

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from benchmarks.server import ROOT, free_port
from tests.image.lab import Lab, open_lab

READY_TIMEOUT_S = 240  # a machine with other work to do takes two minutes
OPEN = {"HEADSTART_ALLOW_ANONYMOUS": "true"}
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host")


@dataclass(frozen=True)
class Container:
    """A container that runs the server."""

    lab: Lab
    name: str
    url: str

    def run(self, *command: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """A command inside."""
        return self.lab.podman("exec", self.name, *command, check=check)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120, trust_env=False)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        logs = self.lab.podman("logs", self.name, check=False)
        raise RuntimeError(f"the container did not become ready:\n{logs.stdout}{logs.stderr}")

    def stop(self) -> int:
        """SIGTERM, and half a minute for it; the exit status of the server."""
        self.lab.podman("stop", "--time=30", self.name)
        return int(self.lab.podman("inspect", "--format={{.State.ExitCode}}", self.name).stdout)


Start = Callable[..., Container]


@pytest.fixture(scope="session")
def lab() -> Lab:
    return open_lab()


@contextmanager
def built(lab: Lab, extractor: Path, tag: str, *options: str) -> Iterator[str]:
    """An image by `deploy/image/build.py`, which prints its size; with a model store of its own."""
    command = [sys.executable, ROOT / "deploy" / "image" / "build.py", extractor, *options]
    with TemporaryDirectory(prefix="headstart-bentoml-") as bentos:
        done = subprocess.run(
            [*command, "--tag", tag, "--base", lab.base],
            env=lab.environ | {"BENTOML_HOME": bentos},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    print(done.stdout[done.stdout.index(f"{tag}: ") :])
    try:
        yield tag
    finally:
        lab.podman("rmi", "--force", tag)
        lab.podman("image", "prune", "--force")


@pytest.fixture(scope="session")
def image(lab: Lab, lite0_folder: Path) -> Iterator[str]:
    """The CPU image."""
    with built(lab, lite0_folder, "localhost/headstart-test:cpu") as tag:
        yield tag


@pytest.fixture
def volume(lab: Lab) -> Iterator[str]:
    name = f"headstart-test-{uuid.uuid4().hex[:12]}"
    lab.podman("volume", "create", name)
    yield name
    lab.podman("volume", "rm", "--force", name)


@pytest.fixture
def start(lab: Lab, image: str, volume: str) -> Iterator[Start]:
    """Run the server on the volume, as the guide says to, and wait until it is ready."""
    names: list[str] = []

    def run(settings: dict[str, str] = OPEN) -> Container:
        names.append(f"headstart-test-{uuid.uuid4().hex[:12]}")
        port = free_port()
        environ = [
            f"--env={name}={value}" for name, value in (settings | {"HEADSTART_PORT": str(port)}).items()
        ]
        lab.podman(
            "run", "--detach", f"--name={names[-1]}", *HARDENED, f"--volume={volume}:/data", *environ, image
        )
        container = Container(lab, names[-1], f"http://127.0.0.1:{port}")
        container.wait_until_ready()
        return container

    yield run
    for name in names:
        lab.podman("rm", "--force", "--time=5", name)
