"""Heads leave and come back, and are measured, through the real service on real photographs."""

from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import onnxruntime

from benchmarks.main_job import multipart
from benchmarks.server import Server

Photos = dict[str, list[Path]]
TOLERANCE = 1e-4
MIB = 1024 * 1024


def labelled(photos: Photos, start: int, stop: int) -> list:
    return multipart([(label, path) for label, paths in photos.items() for path in paths[start:stop]])


def test_a_copied_head_predicts_the_same_on_every_worker(
    client: httpx.Client, teach: Callable[..., dict], photos: Photos
) -> None:
    teach("original")
    data = client.get("/v1/heads/original/export").content
    imported = client.post("/v1/heads/copied/versions", content=data)
    assert imported.status_code == 201, imported.text
    asked = labelled(photos, 100, 120)
    expected = client.post("/v1/heads/original/predict", files=asked).json()["predictions"]
    for _ in range(6):
        assert client.post("/v1/heads/copied/predict", files=asked).json()["predictions"] == expected
        assert client.get("/v1/heads/copied/export").content == data


def test_onnx_answers_as_the_service_on_photographs(
    client: httpx.Client, teach: Callable[..., dict], photos: Photos
) -> None:
    teach("measured")
    asked = labelled(photos, 100, 150)
    predictions = client.post("/v1/heads/measured/predict", files=asked).json()["predictions"]
    rows = client.post("/v1/embeddings", files=asked).json()["data"]
    embeddings = np.array([row["embedding"] for row in rows], np.float32)
    session = onnxruntime.InferenceSession(client.get("/v1/heads/measured/export?format=onnx").content)
    probabilities, typicality = session.run(["probabilities", "typicality"], {"embedding": embeddings})
    of_cat = [{p["label"]: p["probability"] for p in row["probabilities"]}["cat"] for row in predictions]
    differences = [
        np.abs(probabilities[:, 0] - of_cat).max(),
        np.abs(typicality - [row["typicality"] for row in predictions]).max(),
    ]
    print(f"largest difference {max(differences):.1e} on {len(predictions)} photographs")
    assert max(differences) < TOLERANCE


def test_an_evaluation_tells_new_photographs_from_learned_ones(
    client: httpx.Client, teach: Callable[..., dict], photos: Photos
) -> None:
    teach("examined", stop=10)
    fresh = client.post("/v1/heads/examined/evaluate", files=labelled(photos, 200, 240)).json()
    assert fresh["accuracy"] >= 0.9
    assert fresh["accuracy_low"] < fresh["accuracy"] <= fresh["accuracy_high"]
    assert fresh["warnings"] == []
    learned = client.post("/v1/heads/examined/evaluate", files=labelled(photos, 0, 10)).json()
    assert learned["inputs"]["in_support_set"] == 20
    assert learned["warnings"][0]["code"] == "in_support_set"


def test_a_head_file_larger_than_a_body_may_be(server: Server, client: httpx.Client) -> None:
    def chunks():
        for _ in range(129):
            yield bytes(MIB)

    refused = client.post("/v1/heads/huge/versions", content=chunks())
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "body_too_large")
    assert client.get("/v1/heads/huge").status_code == 404
