"""The pod of the Deployment of `overlays/cpu`, run by `podman kube play`. Run by `make image-test`.

Podman makes pod, volume and environment of the same objects as a cluster does, and carries out no probes.
Unlike there, the pod uses the network of the host and a port of its own.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.main_job import images_of, multipart
from benchmarks.server import free_port
from tests.image.conftest import Container
from tests.image.lab import Lab
from tests.kubernetes.conftest import render


@pytest.fixture
def container(lab: Lab, image: str, tmp_path: Path) -> Iterator[Container]:
    port = free_port()
    objects: list[Any] = [copy.deepcopy(render("cpu").one(kind)) for kind in ("ConfigMap", "Deployment")]
    settings, deployment = objects
    settings["data"] |= {"HEADSTART_PORT": str(port), "HEADSTART_ALLOW_ANONYMOUS": "true"}
    pod = deployment["spec"]["template"]["spec"]
    pod["hostNetwork"] = True
    pod["containers"][0]["image"] = image
    del pod["containers"][0]["ports"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        pod["containers"][0][probe]["httpGet"]["port"] = port
    file = tmp_path / "headstart.yaml"
    file.write_text(yaml.safe_dump_all([*objects, render("cpu").one("PersistentVolumeClaim")]))
    lab.podman("kube", "play", str(file))
    try:
        running = lab.podman("ps", "--filter", f"ancestor={image}", "--format", "{{.Names}}").stdout
        (name,) = running.split()
        container = Container(lab, name, f"http://127.0.0.1:{port}")
        container.wait_until_ready()
        yield container
    finally:
        lab.podman("kube", "down", str(file), check=False)
        lab.podman("volume", "rm", "--force", "headstart", check=False)


def test_the_pod_does_the_main_job_by_the_settings_of_the_overlay(
    container: Container, data_root: Path
) -> None:
    photos = images_of(data_root / "cats_dogs")
    taught = [(label, path) for label, paths in photos.items() for path in paths[:3]]
    with container.client() as client:
        assert client.put("/v1/heads/pets", files=multipart(taught)).status_code == 201
        answer = client.post("/v1/heads/pets/predict", content=photos["cat"][10].read_bytes())
        assert answer.status_code == 200, answer.text
    assert container.run("id", "-u").stdout.strip() == "1034"
    environ = container.run("env").stdout.splitlines()
    assert {f"{name}={value}" for name, value in render("cpu").settings.items()} <= set(environ)
    assert container.run("touch", "/opt/x", check=False).returncode != 0
    assert "headstart.db" in container.run("ls", "/data").stdout
