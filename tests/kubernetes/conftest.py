"""The overlays of deploy/kubernetes as kubectl renders them."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import yaml

from benchmarks.server import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = tuple(sorted(path.name for path in (KUBERNETES / "overlays").iterdir()))

Resource = Mapping[str, Any]


@dataclass(frozen=True)
class Rendered:
    """What one overlay would apply."""

    overlay: str
    resources: Sequence[Resource]

    @property
    def is_replicated(self) -> bool:
        return self.overlay.startswith("external")

    @property
    def has_gpu(self) -> bool:
        return "gpu" in self.overlay

    def of(self, kind: str) -> list[Resource]:
        return [resource for resource in self.resources if resource["kind"] == kind]

    def one(self, kind: str) -> Resource:
        (found,) = self.of(kind)
        return found

    @property
    def pods(self) -> Mapping[str, Resource]:
        """The pod templates, by the kind that makes them."""
        templates = {
            "Deployment": ("spec", "template"),
            "Job": ("spec", "template"),
            "CronJob": ("spec", "jobTemplate", "spec", "template"),
        }
        found = {}
        for kind, path in templates.items():
            for resource in self.of(kind):
                template: Any = resource
                for key in path:
                    template = template[key]
                found[kind] = template
        return found

    @property
    def server(self) -> Resource:
        """The pod of the Deployment."""
        pod: Resource = self.pods["Deployment"]["spec"]
        return pod

    @property
    def settings(self) -> dict[str, str]:
        """What the server's container has in its environment, but for Secrets."""
        (config,) = self.of("ConfigMap")
        (container,) = self.server["containers"]
        assert {"configMapRef": {"name": config["metadata"]["name"]}} in container["envFrom"]
        return dict(config["data"])


@cache
def render(overlay: str) -> Rendered:
    """Raises RuntimeError where kubectl is missing or too old."""
    if shutil.which("kubectl") is None:
        raise RuntimeError("kubectl is missing (Debian: apt-get install kubernetes-client)")
    command = ["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{done.stderr}Components need kubectl 1.21 or newer (Debian 13 has 1.32).")
    assert not done.stderr, done.stderr
    return Rendered(overlay, list(yaml.safe_load_all(done.stdout)))


@pytest.fixture(params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return render(request.param)
