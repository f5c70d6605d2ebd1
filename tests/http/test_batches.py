"""Many images and many heads through the real service."""

import csv
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from benchmarks.main_job import multipart
from benchmarks.server import Server

LINES = {"Accept": "application/x-ndjson"}


def new(path: Path) -> bytes:
    """A photograph with bytes that nobody has embedded; what is behind the end of a JPEG is not looked at."""
    return path.read_bytes() + uuid4().bytes


def test_heads_asked_together_answer_as_alone(
    client: httpx.Client, teach: Callable[..., dict], photos: dict[str, list[Path]]
) -> None:
    names = [f"together{start}" for start in range(3)]
    for start, name in enumerate(names):
        teach(name, start, start + 4)
    image = photos["cat"][70].read_bytes()
    answer = client.post("/v1/predict", params={"heads": "together*"}, content=image)
    for found, name in zip(answer.json()["predictions"][0]["heads"], names, strict=True):
        alone = client.post(f"/v1/heads/{name}/predict?top_k=1", content=image).json()["predictions"][0]
        assert found["label"] == alone["label"]
        assert found["probability"] == pytest.approx(alone["probability"], abs=1e-6)
        assert found["typicality"] == pytest.approx(alone["typicality"], abs=1e-6)


def test_a_client_that_goes_away_stops_the_work(
    server: Server, teach: Callable[..., dict], photos: dict[str, list[Path]]
) -> None:
    teach("left")
    before = server.metric("headstart_embeddings_total", source="computed")
    images = [("image", (path.name, new(path))) for path in photos["dog"][:300]]
    request = httpx.Request("POST", f"{server.url}/v1/heads/left/predict", files=images, headers=LINES)
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    connection.request("POST", "/v1/heads/left/predict", request.read(), dict(request.headers))
    response = connection.getresponse()
    assert json.loads(response.readline())["id"]
    connection.close()
    response.close()
    computed, last = server.metric("headstart_embeddings_total", source="computed"), -1.0
    while computed != last:
        time.sleep(0.5)
        computed, last = server.metric("headstart_embeddings_total", source="computed"), computed
    assert 0 < computed - before < 200
    with server.client() as client:
        assert client.post("/v1/heads/left/predict", content=new(photos["cat"][0])).status_code == 200


def test_a_folder_is_predicted_by_the_server(
    server: Server, teach: Callable[..., dict], photos: dict[str, list[Path]], tmp_path: Path
) -> None:
    teach("asked", 0, 8)
    folder = tmp_path / "images"
    for label, paths in photos.items():
        (folder / label).mkdir(parents=True)
        for path in paths[50:65]:
            (folder / label / path.name).symlink_to(path)
    (folder / "broken.jpg").write_bytes(b"no image")
    output = tmp_path / "found.csv"
    command = [sys.executable, "-m", "service.cli", "predict", "asked", str(folder), "--url", server.url]
    done = subprocess.run([*command, "--output", str(output)], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "broken.jpg: not an image" in done.stderr
    with output.open(newline="") as stream:
        rows = {row["path"]: row for row in csv.DictReader(stream)}
    assert len(rows) == 30
    path = photos["cat"][50]
    with server.client() as client:
        answer = client.post("/v1/heads/asked/predict", files=multipart([("cat", path)])).json()
    expected = answer["predictions"][0]
    found = rows[f"cat/{path.name}"]
    assert found["label"] == expected["label"]
    assert float(found["probability"]) == pytest.approx(expected["probability"], abs=1e-6)
