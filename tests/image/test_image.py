"""The image as it is deployed: read-only, without privileges, on a volume, as docs/guide/deploy.md shows it.

Run by `make image-test`.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from benchmarks.main_job import images_of, multipart
from tests.image.conftest import HARDENED, READY_TIMEOUT_S, Container, Start
from tests.image.lab import Lab

UID = "1034"
Photos = dict[str, list[Path]]


@pytest.fixture(scope="module")
def photos(data_root: Path) -> Photos:
    return images_of(data_root / "cats_dogs")


def some(photos: Photos, start: int, stop: int) -> list[tuple[str, Path]]:
    return [(label, path) for label, paths in photos.items() for path in paths[start:stop]]


def ask(client: httpx.Client, asked: list[tuple[str, Path]]) -> list[dict[str, object]]:
    answer = client.post("/v1/heads/pets/predict", files=multipart(asked))
    assert answer.status_code == 200, answer.text
    predictions: list[dict[str, object]] = answer.json()["predictions"]
    return predictions


def test_it_does_the_main_job_and_remembers_it_after_a_restart(
    lab: Lab, start: Start, photos: Photos, image: str
) -> None:
    began = time.monotonic()
    first = start()
    print(f"ready {time.monotonic() - began:.1f} s after `podman run`")
    asked = some(photos, 50, 60)
    with first.client() as client:
        assert client.get("/readyz").json()["extractors"][0]["name"] == "efficientnet-lite0"
        taught = client.put("/v1/heads/pets", files=multipart(some(photos, 0, 5)))
        assert taught.status_code == 201, taught.text
        before = ask(client, asked)
        assert sum(p["label"] == label for p, (label, _) in zip(before, asked, strict=True)) >= 18
    assert first.stop() == 0
    with start().client() as client:
        head = client.get("/v1/heads/pets").json()
        assert head["published_version"] == 1, head
        assert [p["label"] for p in ask(client, asked)] == [p["label"] for p in before]


def test_it_is_healthy_without_privileges_and_cannot_change_itself(
    lab: Lab, start: Start, image: str
) -> None:
    container = start()
    assert container.run("id", "-u").stdout.strip() == UID
    (described,) = json.loads(lab.podman("image", "inspect", image).stdout)
    assert described["Config"]["User"] == f"{UID}:{UID}"
    assert lab.podman("healthcheck", "run", container.name).returncode == 0
    for place in ("/opt/headstart/src/service/x", "/etc/x", "/usr/x"):
        refused = container.run("touch", place, check=False)
        assert refused.returncode != 0, place
        assert "Read-only file system" in refused.stderr
    container.run("touch", "/data/x")
    absent = (
        "import importlib.util as u; raise SystemExit(any(u.find_spec(m) for m in ('torch', 'torchvision')))"
    )
    container.run("python", "-c", absent)


def test_without_a_key_it_refuses_to_start(lab: Lab, image: str, volume: str) -> None:
    refused = lab.podman("run", "--rm", *HARDENED, f"--volume={volume}:/data", image, check=False)
    assert refused.returncode == 1
    assert "headstart keys create --scope admin" in refused.stderr, refused.stderr


def test_a_key_made_before_the_start_is_asked_for(lab: Lab, image: str, volume: str, start: Start) -> None:
    made = lab.podman(
        "run", "--rm", *HARDENED, f"--volume={volume}:/data", image, "keys", "create", "--scope", "admin"
    )
    expect_guarded(start({}), made.stdout.strip())


def test_a_key_made_in_a_running_container_is_asked_for(start: Start) -> None:
    container = start()
    with container.client() as client:
        assert client.get("/v1/heads").status_code == 200
    made = container.run("headstart", "keys", "create", "--scope", "admin", "--note", "first")
    expect_guarded(container, made.stdout.strip())
    assert "first" in container.run("headstart", "keys", "list").stdout
    assert "key.create" in container.run("headstart", "audit").stdout


def expect_guarded(container: Container, key: str) -> None:
    with container.client() as client:
        assert client.get("/v1/heads").status_code == 401
        assert client.get("/v1/heads", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_a_request_in_progress_is_answered_after_sigterm(start: Start, photos: Photos) -> None:
    container = start()
    with container.client() as client, ThreadPoolExecutor(1) as pool:
        assert client.put("/v1/heads/pets", files=multipart(some(photos, 0, 2))).status_code == 201
        asked = some(photos, 10, 110)
        before = embedded(client)
        answer = pool.submit(ask, client, asked)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while embedded(client) == before:
            assert time.monotonic() < deadline
            assert not answer.done()
        assert not answer.done()
        assert container.stop() == 0
        assert len(answer.result()) == len(asked)


def embedded(client: httpx.Client) -> float:
    """Images that have been through the network, of requests that may still be in progress."""
    name = 'headstart_stage_seconds_count{stage="embed"} '
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_it_needs_no_network(lab: Lab, image: str) -> None:
    name = "headstart-test-airgapped"
    flags = ["--read-only", "--network=none", "--env=HEADSTART_ALLOW_ANONYMOUS=true"]
    lab.podman("run", "--detach", f"--name={name}", *flags, image)
    try:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while lab.podman("exec", name, "healthcheck", check=False).returncode:
            assert time.monotonic() < deadline, lab.podman("logs", name).stderr
    finally:
        lab.podman("rm", "--force", "--volumes", "--time=5", name)
