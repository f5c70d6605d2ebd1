"""Heads of a server that changes its precision: old ones go on, new ones take the variant, one moves."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from fastapi.testclient import TestClient

from service.api import create_app
from service.config import Settings
from service.preparation import prepare
from tests.service.api.conftest import check, photographs
from tests.service.images import png
from tests.service.variants import tiny_variant
from training.image_embedding import ImageEmbedder
from training.manifest import Manifest
from training.variant import Variant

Serve = Callable[..., "contextmanager[TestClient]"]


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
    tiny_variant(folder, "int8")
    return folder


@contextmanager
def serving(settings: Settings, folder: Path, precision: str) -> Iterator[TestClient]:
    settings = replace(settings, extractors=(str(folder),), precision=precision)
    prepare(settings)
    with TestClient(create_app(settings)) as client:
        yield client


def probabilities(client: TestClient, head: str) -> list[float]:
    found = client.post(f"/v1/heads/{head}/predict", content=png(256 * 50 + 40))
    assert found.status_code == 200, found.text
    return [row["probability"] for row in found.json()["predictions"][0]["probabilities"]]


def test_the_list_shows_precision_and_gate(settings: Settings, folder: Path) -> None:
    variant, manifest = Variant.load(folder, "int8"), Manifest.load(folder)
    with serving(settings, folder, "auto") as client:
        (row,) = client.get("/v1/extractors").json()["extractors"]
        assert (row["precision"], row["digest"]) == ("int8", variant.digest)
        assert row["gate"] == {
            "images": 40,
            "cosines": {"embedding": 0.999},
            "least_cosine": 0.99,
            "shots": [{"shots": 5, "fp32": 0.9, "variant": 0.9}],
            "seeds": 10,
            "passed": True,
        }
    with serving(settings, folder, "fp32") as client:
        row = client.get("/v1/extractors/tiny").json()
        assert (row["precision"], row["digest"], row["gate"]) == ("fp32", manifest.digest, None)


def test_old_heads_keep_their_rows_and_a_move_takes_one_over(settings: Settings, folder: Path) -> None:
    with serving(settings, folder, "fp32") as client:
        client.put("/v1/heads/old", files=photographs(0, 6)).raise_for_status()
        expected = probabilities(client, "old")
    with serving(settings, folder, "auto") as client:
        assert probabilities(client, "old") == expected
        made = client.put("/v1/heads/new", files=photographs(0, 6)).json()
        digests = Manifest.load(folder).digest, Variant.load(folder, "int8").digest
        assert made["extractor"] == {"name": "tiny", "digest": digests[1]}
        assert client.get("/v1/heads/old").json()["extractor"]["digest"] == digests[0]
        added = client.post("/v1/heads/old/examples", files=photographs(20, 22))
        assert added.status_code == 201, added.text
        moved = client.post("/v1/heads/old/move", json={"extractor": "tiny", "switch": "always"})
        assert moved.status_code == 201, moved.text
        assert client.get("/v1/heads/old").json()["extractor"]["digest"] == digests[1]
        assert len(client.get("/v1/extractors").json()["extractors"]) == 1


def test_a_head_of_a_variant_is_fused_with_its_graph(
    settings: Settings, folder: Path, tmp_path: Path
) -> None:
    with serving(settings, folder, "auto") as client:
        client.put("/v1/heads/shades", files=photographs(0, 6)).raise_for_status()
        expected = probabilities(client, "shades")
        fused = client.get("/v1/heads/shades/export?format=fused").content
    session = onnxruntime.InferenceSession(fused, providers=["CPUExecutionProvider"])
    pixels = ImageEmbedder.load(folder).decode(png(256 * 50 + 40))
    outputs = dict(
        zip(
            [output.name for output in session.get_outputs()],
            session.run(None, {"images": pixels[np.newaxis]}),
            strict=True,
        )
    )
    np.testing.assert_allclose(outputs["top_probabilities"][0], expected, atol=1e-5)


def test_a_damaged_sibling_is_a_503_for_its_heads_alone(settings: Settings, folder: Path) -> None:
    with serving(settings, folder, "int8") as client:
        client.put("/v1/heads/narrow", files=photographs(0, 6)).raise_for_status()
    model = folder / "model.int8.onnx"
    model.write_bytes(model.read_bytes()[:-9])
    with serving(settings, folder, "fp32") as client:
        client.put("/v1/heads/wide", files=photographs(0, 6)).raise_for_status()
        probabilities(client, "wide")
        answer = client.post("/v1/heads/narrow/predict", content=png(999))
        error = check(answer, 503, "extractor_unavailable")
        assert "headstart quantise tiny" in error["message"]
        assert "move the head" in error["message"]
