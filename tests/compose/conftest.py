"""The files of deploy/compose, and the tools that judge them."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.main_job import images_of, multipart
from benchmarks.server import ROOT, running

COMPOSE = ROOT / "deploy" / "compose"
PROMETHEUS = COMPOSE / "prometheus"
TOOLS = {"promtool": "prometheus", "docker-compose": "docker-compose"}

Labels = dict[str, str]


def run(*command: str | Path) -> str:
    """What a tool prints; it must succeed."""
    tool = str(command[0])
    if shutil.which(tool) is None:
        raise RuntimeError(f"{tool} is missing (Debian: apt-get install {TOOLS[tool]})")
    done = subprocess.run(command, cwd=COMPOSE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


def composed(*files: str) -> dict[str, Any]:
    """The compose files as docker-compose reads them, validated, with the passwords of the example."""
    named = [argument for file in files for argument in ("-f", file)]
    found = yaml.safe_load(run("docker-compose", "--env-file", "example.env", *named, "config"))
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="session")
def queries() -> dict[str, str]:
    """Every PromQL expression of the dashboard and the alerts, by where it is."""
    dashboard = json.loads((COMPOSE / "grafana" / "dashboards" / "headstart.json").read_text())
    found = {
        f"{panel['title']}: {target['legendFormat']}": target["expr"].replace("$__rate_interval", "1m")
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    return found | {rule["alert"]: rule["expr"] for rule in group["rules"]}


@pytest.fixture(scope="module")
def samples(
    lite0_folder: Path, data_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, list[Labels]]]:
    """The label sets of every sample of a running server that has taught, answered and refused."""
    photos = images_of(data_root / "cats_dogs")
    support = [(label, path) for label, paths in photos.items() for path in paths[:3]]
    with (
        running(tmp_path_factory.mktemp("watched"), extractor=lite0_folder) as server,
        server.client() as client,
    ):
        client.put("/v1/heads/pets", files=multipart(support)).raise_for_status()
        client.post("/v1/heads/pets/predict", files=multipart(support)).raise_for_status()
        found: dict[str, list[Labels]] = {}
        for family in text_string_to_metric_families(client.get("/metrics").text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample.labels)
        yield found


@pytest.fixture
def s3_environ() -> Iterator[dict[str, str]]:
    """An empty S3 server of moto, as the variables that lead to it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "headstart", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    yield dict(os.environ) | keys | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    server.stop()
