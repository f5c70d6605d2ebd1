"""What docker-compose needs of a container engine, by podman: its socket, networks with names, health.

The engine of the image's tests gives every container the network of the host; this one has podman's own.
Knows nothing of Headstart.
"""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.image.lab import LAB, Lab

START_TIMEOUT_S = 20
CHECK_EVERY_S = 1
NETWORK_TOOLS = {
    "netavark": "/usr/lib/podman/netavark",
    "aardvark-dns": "/usr/lib/podman/aardvark-dns",
    "iptables": "/usr/sbin/iptables",
}
BRIDGE = """
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""


def with_networks(lab: Lab) -> Lab:
    """The same storage and images, and networks of containers.

    Raises
    ------
    RuntimeError
        What they need is missing; the message says what to install.
    """
    missing = [name for name, path in NETWORK_TOOLS.items() if not Path(path).exists()]
    if shutil.which("docker-compose") is None:
        missing.append("docker-compose")
    if missing:
        raise RuntimeError(f"missing (Debian: apt-get install {' '.join(missing)})")
    settings = Path(lab.environ["CONTAINERS_CONF"]).read_text().replace('netns = "host"\n', "")
    (LAB / "networks").mkdir(exist_ok=True)
    file = LAB / "networks.conf"
    file.write_text(settings + BRIDGE.format(folder=LAB))
    return replace(lab, environ=lab.environ | {"CONTAINERS_CONF": str(file)})


@contextmanager
def docker_socket(lab: Lab, folder: Path) -> Iterator[str]:
    """Podman's Docker API, as the value of DOCKER_HOST."""
    socket = folder / "podman.sock"
    with (folder / "service.log").open("w") as log:
        service = subprocess.Popen(
            ["podman", "system", "service", "--time=0", f"unix://{socket}"],
            env=lab.environ,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not socket.exists():
            assert service.poll() is None, (folder / "service.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"unix://{socket}"
    finally:
        service.terminate()
        service.wait(START_TIMEOUT_S)


@contextmanager
def health_checked(lab: Lab, label: str) -> Iterator[None]:
    """Runs the healthchecks of the containers with a label: podman leaves that to systemd's timers."""
    stopped = threading.Event()

    def check() -> None:
        while not stopped.wait(CHECK_EVERY_S):
            for name in lab.podman("ps", "--quiet", f"--filter=label={label}", check=False).stdout.split():
                lab.podman("healthcheck", "run", name, check=False)

    checker = threading.Thread(target=check)
    checker.start()
    try:
        yield
    finally:
        stopped.set()
        checker.join()
