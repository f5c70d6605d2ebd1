"""The stack of deploy/compose at work: the commands of docs/guide/deploy.md, the main job, restarts.

PostgreSQL, S3 and Prometheus are stand-ins made of packages (tests/stack/Containerfile); Grafana is left out.
Run by `make test-compose-stack`.
"""

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from benchmarks.main_job import images_of, multipart
from tests.stack.conftest import DEPLOYED, TIMEOUT_S, Stack

SUPPORT, ASKED = slice(0, 5), slice(50, 60)


@pytest.fixture(scope="module")
def photos(data_root: Path) -> dict[str, list[Path]]:
    return images_of(data_root / "cats_dogs")


def some(photos: dict[str, list[Path]], chosen: slice) -> list[tuple[str, Path]]:
    return [(label, path) for label, paths in photos.items() for path in paths[chosen]]


def labels(client: httpx.Client, asked: list[tuple[str, Path]]) -> list[str]:
    answer = client.post("/v1/heads/pets/predict", files=multipart(asked))
    assert answer.status_code == 200, answer.text
    return [prediction["label"] for prediction in answer.json()["predictions"]]


@pytest.fixture(scope="module")
def taught(stack: Stack, photos: dict[str, list[Path]]) -> list[str]:
    """A head of ten photographs; what it answers."""
    with stack.client() as client:
        answer = client.put("/v1/heads/pets", files=multipart(some(photos, SUPPORT)))
        assert answer.status_code == 201, answer.text
        asked = some(photos, ASKED)
        answered = labels(client, asked)
    assert sum(found == label for found, (label, _) in zip(answered, asked, strict=True)) >= 18
    return answered


def test_it_asks_for_the_key_that_was_made_before_the_start(stack: Stack) -> None:
    assert httpx.get(f"{stack.url}/v1/heads", trust_env=False).status_code == 401
    with stack.client() as client:
        assert client.get("/v1/heads").status_code == 200


def test_rows_are_in_postgresql_and_blobs_in_the_bucket(stack: Stack, taught: list[str]) -> None:
    query = "SELECT count(*), count(DISTINCT label) FROM examples JOIN heads ON heads.id = head_id"
    psql = ["psql", "--username=headstart", "--no-align", "--tuples-only", f"--command={query}"]
    assert stack.inside("postgres", *psql, "headstart").strip() == "10|2"
    listing = "import fsspec; print(*fsspec.filesystem('s3').find('headstart'), sep='\\n')"
    assert len(stack.inside("headstart", "python", "-c", listing).splitlines()) >= 10
    assert "headstart.db" not in stack.inside("headstart", "ls", "/data")


def test_prometheus_scrapes_the_service_and_evaluates_the_alerts(stack: Stack, taught: list[str]) -> None:
    query = 'headstart_requests_total{job="headstart", route="/v1/heads/{name}/predict"} > 0'
    eventually(lambda: stack.ask_prometheus("query", query=query)["result"])
    (target,) = stack.ask_prometheus("targets")["activeTargets"]
    assert (target["health"], target["scrapeUrl"]) == ("up", "http://headstart:3000/metrics")
    (group,) = yaml.safe_load((DEPLOYED / "prometheus" / "alerts.yaml").read_text())["groups"]

    def healths() -> dict[str, str]:
        (loaded,) = stack.ask_prometheus("rules")["groups"]
        return {rule["name"]: rule["health"] for rule in loaded["rules"]}

    eventually(lambda: healths() == {rule["alert"]: "ok" for rule in group["rules"]})


def eventually(holds: Callable[[], object]) -> None:
    """Within a few rounds of scraping and evaluation, a quarter of a minute each."""
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(1)


def test_it_outlives_a_new_postgresql_on_the_old_volume(
    stack: Stack, taught: list[str], photos: dict[str, list[Path]]
) -> None:
    stack.compose("up", "--detach", "--force-recreate", "--no-deps", "postgres")
    stack.wait_until_ready()
    with stack.client() as client:
        assert labels(client, some(photos, ASKED)) == taught


def test_a_restarted_service_on_an_empty_volume_answers_the_same(
    stack: Stack, taught: list[str], photos: dict[str, list[Path]]
) -> None:
    stack.compose("rm", "--stop", "--force", "headstart")
    stack.lab.podman("volume", "rm", f"{stack.project}_headstart")
    stack.compose("up", "--detach")
    stack.wait_until_ready()
    with stack.client() as client:
        assert labels(client, some(photos, ASKED)) == taught
