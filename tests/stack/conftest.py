"""The stack of deploy/compose, started as docs/guide/deploy.md says, with stand-ins for foreign images."""

import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import yaml

from benchmarks.server import ROOT, free_port
from tests.docs.pages import shell_blocks
from tests.image.conftest import image, lab
from tests.image.lab import Lab
from tests.stack.engine import docker_socket, health_checked, with_networks

__all__ = ["image", "lab"]

HERE = Path(__file__).parent
DEPLOYED = ROOT / "deploy" / "compose"
GRAFANA = DEPLOYED / "grafana" / "provisioning"
GUIDE = ROOT / "docs" / "guide" / "deploy.md"
STAND_INS = ("postgres", "s3", "prometheus")
TIMEOUT_S = 180
POLL_S = 0.1
FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())"
# `docker compose` of the page. Version 1 asks for a terminal where version 2 looks whether there is one.
DOCKER = """
set -Eeuo pipefail
docker() { shift; if [[ $1 = run ]]; then set -- run -T "${@:2}"; fi; docker-compose "$@"; }
"""


@dataclass(frozen=True)
class Stack:
    """A running project of docker-compose."""

    lab: Lab
    folder: Path
    environ: dict[str, str]
    url: str
    key: str

    def compose(self, *arguments: str) -> str:
        """What docker-compose prints; it must succeed."""
        return run(["docker-compose", *arguments], self.folder, self.environ)

    def inside(self, service: str, *command: str) -> str:
        """What a command in a service's container prints."""
        return self.compose("exec", "-T", service, *command)

    @property
    def project(self) -> str:
        return self.environ["COMPOSE_PROJECT_NAME"]

    def client(self) -> httpx.Client:
        """Of the published port, with the key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                answer = httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False)
                if answer.status_code == 200:
                    return
                said = answer.text
            except httpx.TransportError as error:
                said = repr(error)
            assert time.monotonic() < deadline, said + self.compose("logs", "--tail=50")
            time.sleep(POLL_S)

    def ask_prometheus(self, path: str, **query: str) -> Any:
        """An answer of Prometheus' API, at the address at which Grafana has it, from within the network."""
        (source,) = yaml.safe_load((GRAFANA / "datasources" / "prometheus.yaml").read_text())["datasources"]
        url = f"{source['url']}/api/v1/{path}?{urlencode(query)}"
        answer = json.loads(self.inside("headstart", "python", "-c", FETCH, url))
        assert answer["status"] == "success", answer
        return answer["data"]


def run(command: list[str], folder: Path, environ: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def stand_ins(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Images of PostgreSQL, S3 and Prometheus; they outlive a run, so that a second one takes seconds."""
    context = tmp_path_factory.mktemp("stand-ins")
    for file in ("postgres", "s3.py"):
        shutil.copy(HERE / file, context)
    shutil.copy(ROOT / "requirements" / "dev.txt", context)
    for name in STAND_INS:
        tag = f"--tag=localhost/headstart-test:{name}"
        file = f"--file={HERE / 'Containerfile'}"
        lab.podman(
            "build", "--quiet", tag, file, f"--target={name}", f"--build-arg=BASE={lab.base}", str(context)
        )


def commands_of_the_guide() -> str:
    """The block of docs/guide/deploy.md that starts the stack, without the image, which is there."""
    (block,) = (block for block in shell_blocks(GUIDE) if "docker compose up" in block.text)
    return "\n".join(
        command.text for command in block.commands() if not re.match("make image|cd ", command.text)
    )


@pytest.fixture(scope="session")
def stack(lab: Lab, image: str, stand_ins: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack as a new user starts it, with passwords and ports of its own."""
    networked = with_networks(lab)
    folder = tmp_path_factory.mktemp("stack") / "compose"
    shutil.copytree(DEPLOYED, folder)
    port, project = free_port(), f"headstart-test-{secrets.token_hex(4)}"
    example = (folder / "example.env").read_text()
    (folder / "example.env").write_text(
        re.sub("change-me-.", lambda _: secrets.token_urlsafe(12), example)
        + f"HEADSTART_PORT=127.0.0.1:{port}\nHEADSTART_IMAGE={image}\n"
    )
    with (
        docker_socket(networked, folder.parent) as socket,
        health_checked(networked, f"com.docker.compose.project={project}"),
    ):
        environ = networked.environ | {
            "DOCKER_HOST": socket,
            "COMPOSE_PROJECT_NAME": project,
            "COMPOSE_FILE": os.pathsep.join(["compose.yaml", str(HERE / "override.yaml")]),
        }
        try:
            printed = run(["bash", "-c", DOCKER + commands_of_the_guide()], folder, environ)
            (key,) = re.findall(r"^hs_\S+$", printed, re.MULTILINE)
            stack = Stack(networked, folder, environ, f"http://127.0.0.1:{port}", key)
            stack.wait_until_ready()
            yield stack
        except AssertionError:
            print(run(["docker-compose", "logs", "--no-color"], folder, environ))
            raise
        finally:
            run(["docker-compose", "down", "--volumes", "--timeout=5"], folder, environ)
