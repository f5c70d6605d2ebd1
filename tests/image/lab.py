"""Podman as the tests of the image need it: settings and storage of its own, a base without a registry.

Everything is under build/image-lab, of which only the base image outlives a run. Knows nothing of Headstart.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.server import ROOT

LAB = ROOT / "build" / "image-lab"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
DEBIAN_BASE = "localhost/headstart-base:bookworm"
PUBLISHED_BASE = "docker.io/library/python:3.11-slim"
# Debian's Python where the published image has its own; machines that see other certificates than the world
# does have them here, too.
DEBIAN = (
    "mmdebstrap --quiet --variant=minbase --mode=root"
    " --include=ca-certificates,python3,python3-venv,python3-pip"
    " --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*'"
    " --customize-hook='rm -f \"$1\"/usr/lib/python3.11/EXTERNALLY-MANAGED'"
    " --customize-hook='ln -s /usr/bin/python3 \"$1\"/usr/local/bin/python' bookworm -"
)
IMPORT = (
    f"podman import --change 'ENV SSL_CERT_FILE={CERTIFICATES}' --change 'ENV UV_SYSTEM_CERTS=true'"
    f" - {DEBIAN_BASE}"
)
CONTAINERS_CONF = """
[containers]
volumes = {volumes}
netns = "host"
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""


@dataclass(frozen=True)
class Lab:
    """Podman with its environment, and the base image to build on."""

    environ: dict[str, str]
    base: str

    def podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman and take what it prints; its warnings go to stderr, apart from the output.

        Raises
        ------
        AssertionError
            It failed and `check` is true.
        """
        command = ["podman", *arguments]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
        return done


def open_lab() -> Lab:
    """Write the settings, and make the base image if it is not there.

    Raises
    ------
    RuntimeError
        Podman is missing; the message says what to install.
    """
    missing = [tool for tool in ("podman", "runc") if shutil.which(tool) is None]
    if missing:
        raise RuntimeError(
            f"{' and '.join(missing)} missing (Debian: apt-get install podman runc mmdebstrap)"
        )
    LAB.mkdir(parents=True, exist_ok=True)
    volumes = [f"{CERTIFICATES}:{CERTIFICATES}:ro"] if CERTIFICATES.exists() else []
    (LAB / "containers.conf").write_text(CONTAINERS_CONF.format(volumes=volumes))
    (LAB / "storage.conf").write_text(STORAGE_CONF.format(folder=LAB))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADSTART_")}
    environ["CONTAINERS_CONF"] = str(LAB / "containers.conf")
    environ["CONTAINERS_STORAGE_CONF"] = str(LAB / "storage.conf")
    return Lab(environ, _base(environ))


def _base(environ: dict[str, str]) -> str:
    """IMAGE_BASE; else one made of Debian's packages, where that can be done; else the published one."""
    if os.environ.get("IMAGE_BASE"):
        return os.environ["IMAGE_BASE"]
    if shutil.which("mmdebstrap") is None or os.geteuid():
        return PUBLISHED_BASE
    exists = subprocess.run(["podman", "image", "exists", DEBIAN_BASE], env=environ, check=False)
    if exists.returncode:
        command = ["bash", "-o", "pipefail", "-c", f"{DEBIAN} | {IMPORT}"]
        subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL)
    return DEBIAN_BASE
