"""`/v1/extractors`: what is loaded and what is registered, and heads on registered ones."""

from pathlib import Path

from fastapi.testclient import TestClient

from service.embedding.registry import Registry
from service.engine import Engine
from tests.service.api.conftest import check, photographs
from tests.service.images import png


def test_a_registered_extractor_is_listed_and_loaded_when_it_is_used(
    client: TestClient, app_engine: Engine, second_folder: Path
) -> None:
    (tiny,) = client.get("/v1/extractors").json()["extractors"]
    assert (tiny["default"], tiny["loaded"], tiny["origin"]) == (True, True, {"kind": "settings"})
    check(client.get("/v1/extractors/second"), 404, "extractor_not_found")
    Registry.of(app_engine.settings, app_engine.store).register(second_folder)
    listed = client.get("/v1/extractors").json()["extractors"]
    assert [(row["name"], row["loaded"], row["provider"]) for row in listed] == [
        ("tiny", True, "CPUExecutionProvider"),
        ("second", False, None),
    ]
    assert listed[1]["origin"] == {"kind": "added"}
    assert client.get("/v1/extractors/second").json() == listed[1]
    embedded = client.post("/v1/embeddings?model=second", content=png(1))
    assert embedded.json()["model"] == "second"
    loaded = client.get("/v1/extractors/second").json()
    assert (loaded["loaded"], loaded["provider"]) == (True, "CPUExecutionProvider")
    assert loaded["weights"] == listed[1]["weights"]
    assert loaded["preprocess"] == listed[1]["preprocess"]
    assert [row["name"] for row in client.get("/readyz").json()["extractors"]] == ["tiny"]


def test_a_head_is_taught_on_a_registered_extractor(
    client: TestClient, app_engine: Engine, second_folder: Path
) -> None:
    Registry.of(app_engine.settings, app_engine.store).register(second_folder)
    made = client.put("/v1/heads/shades?extractor=second", files=photographs(0, 4))
    assert (made.status_code, made.json()["extractor"]["name"]) == (201, "second")
    found = client.post("/v1/heads/shades/predict", content=png(256 * 50 + 40)).json()
    assert found["predictions"][0]["label"] == "dark"


def test_a_damaged_extractor_is_a_503_that_says_what_to_do(
    client: TestClient, app_engine: Engine, second_folder: Path
) -> None:
    row = Registry.of(app_engine.settings, app_engine.store).register(second_folder)
    app_engine.store.blobs.delete([f"{row.blobs}/model.onnx"])
    error = check(client.post("/v1/embeddings?model=second", content=png(1)), 503, "extractor_unavailable")
    assert "headstart extractors add" in error["message"]
