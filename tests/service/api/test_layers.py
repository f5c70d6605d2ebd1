"""Heads on several layers over REST: chosen, shown, kept, exported, imported, refused."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from fastapi.testclient import TestClient
from httpx import Response

from service.embedding.extractor import Extractor
from tests.service.api.conftest import check, photographs
from training.heads import FitOptions, fit_head, load_head, save_head

ALL = ["embedding", "stage2", "stage3"]


def put(client: TestClient, name: str, query: str = "") -> dict:
    response = client.put(f"/v1/heads/{name}?{query}", files=photographs(0, 8))
    assert response.status_code == 201, response.text
    return response.json()


def predictions(client: TestClient, name: str) -> list:
    response = client.post(f"/v1/heads/{name}/predict", files=photographs(20, 24))
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def test_taps_are_described_and_embeddings_do_not_have_them(tapped: TestClient) -> None:
    info = tapped.get("/v1/extractors/tapped").json()
    assert (info["dim"], info["taps"]) == (16, [{"name": "stage2", "dim": 3}, {"name": "stage3", "dim": 5}])
    assert tapped.get("/v1/extractors/tiny").json()["taps"] == []
    for _ in range(2):  # computed, then cached
        answer = tapped.post("/v1/embeddings", files=photographs(0, 1)).json()
        assert [len(item["embedding"]) for item in answer["data"]] == [16, 16]
    answer = tapped.post("/v1/embeddings?encoding_format=base64&dimensions=16", files=photographs(0, 1))
    assert answer.status_code == 200


@pytest.mark.parametrize("query", ["layers=embedding,stage2,stage3", "layers=stage3,stage2,embedding"])
def test_the_layers_of_a_head_are_shown_everywhere(tapped: TestClient, query: str) -> None:
    taught = put(tapped, "shades", query)
    assert taught["layers"] == taught["report"]["layers"] == ALL
    assert tapped.get("/v1/heads/shades").json()["layers"] == ALL
    version = tapped.get("/v1/heads/shades/versions/1").json()
    assert (version["layers"], set(version["options"]["layers"])) == (ALL, set(ALL))
    assert tapped.get("/v1/heads/shades/versions").json()["versions"][0]["layers"] == ALL
    assert {item["label"] for item in predictions(tapped, "shades")} == {"dark", "light"}
    evaluated = tapped.post("/v1/heads/shades/evaluate", files=photographs(30, 34)).json()
    assert evaluated["inputs"]["evaluated"] == 8
    assert tapped.get("/v1/heads/shades/checks").json()["examples"] == 16


def test_every_training_chooses_anew(tapped: TestClient) -> None:
    assert put(tapped, "shades")["layers"] == ["embedding"]
    trained = tapped.post("/v1/heads/shades/train", json={"layers": "stage3"}).json()
    assert trained["layers"] == ["stage3"]
    automatic = tapped.post("/v1/heads/shades/train?layers=auto").json()
    tried = [entry["layers"] for entry in automatic["report"]["layers_tried"]]
    assert tried == [["embedding"], ["embedding", "stage3"], ALL]
    assert automatic["layers"] in tried
    assert tapped.get("/v1/heads/shades/versions/3").json()["options"]["layers"] == "auto"
    added = tapped.post("/v1/heads/shades/examples?layers=embedding,stage2", files=photographs(50, 52))
    assert added.json()["layers"] == ["embedding", "stage2"]
    untrained = tapped.post("/v1/heads/shades/examples?train=false", files=photographs(60, 61)).json()
    assert untrained["layers"] is None


def test_layers_that_the_extractor_does_not_give_change_nothing(tapped: TestClient) -> None:
    for query, words in {
        "layers=stage9": ["'stage9'", "embedding, stage2, stage3"],
        "layers=embedding,stage9": ["'stage9'", "embedding, stage2, stage3"],
        "layers=auto&extractor=tiny": ["no taps", "embedding"],
        "layers=stage2&extractor=tiny": ["'tiny'", "embedding"],
    }.items():
        error = check(tapped.put(f"/v1/heads/x?{query}", files=photographs(0, 4)), 422, "unknown_layer")
        assert error["param"] == "layers"
        assert all(word in error["message"] for word in words)
    check(tapped.get("/v1/heads/x"), 404, "head_not_found")
    put(tapped, "shades")
    for path, sent in {
        "train?layers=stage9": {},
        "train": {"json": {"layers": "stage9"}},
        "examples?layers=stage9": {"files": photographs(40, 41)},
    }.items():
        check(tapped.post(f"/v1/heads/shades/{path}", **sent), 422, "unknown_layer")
    assert tapped.get("/v1/heads/shades").json()["last_version"] == 1


@pytest.mark.parametrize("layers", ["", "a,", "a,a", "auto,embedding", "a b", "é"])
def test_layers_that_cannot_be_named(tapped: TestClient, layers: str) -> None:
    response = tapped.put("/v1/heads/x", params={"layers": layers}, files=photographs(0, 4))
    assert check(response, 422, "invalid_parameter")["param"] == "layers"


@pytest.mark.parametrize("query", ["", "layers=embedding,stage3", "layers=stage2"])
def test_every_form_of_an_export_answers_as_the_server(
    tapped: TestClient, query: str, tapped_folder: Path
) -> None:
    put(tapped, "shades", query)
    expected = [item["probabilities"] for item in predictions(tapped, "shades")]
    extractor = Extractor.load(tapped_folder)
    images = [extractor.decode(data) for _, (_, data) in photographs(20, 24)]
    rows = extractor.embed(images)
    data = tapped.get("/v1/heads/shades/export").content
    head = load_head(data)
    chosen = np.concatenate([rows[:, layer.columns] for layer in head.layers], axis=1)
    inputs = {"onnx": {"embedding": chosen}, "fused": {"images": np.stack(images)}}
    for form, asked in inputs.items():
        model = tapped.get(f"/v1/heads/shades/export?format={form}").content
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        found = dict(
            zip([output.name for output in session.get_outputs()], session.run(None, asked), strict=True)
        )
        for row, items in enumerate(expected):
            for item in items:
                column = head.classes.index(item["label"])
                assert found["probabilities"][row, column] == pytest.approx(item["probability"], abs=1e-4)
    imported = tapped.post("/v1/heads/copy/versions", content=data)
    assert imported.json()["layers"] == [layer.name for layer in head.layers]
    assert predictions(tapped, "copy") == predictions(tapped, "shades")
    assert tapped.get("/v1/heads/copy/export").content == data


def test_a_head_of_embeddings_from_elsewhere_is_served_on_rows(
    tapped: TestClient, tapped_folder: Path
) -> None:
    extractor = Extractor.load(tapped_folder)
    rows = extractor.embed([extractor.decode(data) for _, (_, data) in photographs(0, 8)])
    labels = [label for label, _ in photographs(0, 8)]
    head = fit_head(rows[:, :16], labels, extractor_digest=extractor.digest)
    assert tapped.post("/v1/heads/shades/versions", content=save_head(head)).status_code == 201
    assert {item["label"] for item in predictions(tapped, "shades")} == {"dark", "light"}
    assert load_head(tapped.get("/v1/heads/shades/export").content).width == 24


def test_a_file_with_layers_of_another_kind_is_refused(tapped: TestClient, tapped_folder: Path) -> None:
    digest = Extractor.load(tapped_folder).digest
    points, labels = np.random.default_rng(0).normal(size=(8, 24)).astype(np.float32), list("aabbaabb")
    for dims in ({"embedding": 15, "stage2": 9}, {"embedding": 16, "stage4": 8}, {"embedding": 24}):
        options = FitOptions(layers=tuple(dims))
        head = fit_head(points, labels, extractor_digest=digest, options=options, layer_dims=dims)
        error = check(tapped.post("/v1/heads/x/versions", content=save_head(head)), 422, "invalid_head_file")
        assert "layers: expected some of" in error["message"]


def test_a_head_moves_to_layers_of_the_other_extractor(tapped: TestClient) -> None:
    put(tapped, "shades", "layers=stage3")

    def move(**body: str) -> Response:
        return tapped.post("/v1/heads/shades/move", json=body)

    check(move(extractor="tiny", layers="stage3"), 422, "unknown_layer")
    check(move(extractor="tiny", layers="auto"), 422, "unknown_layer")
    assert tapped.get("/v1/heads/shades").json()["extractor"]["name"] == "tapped"
    moved = move(extractor="tiny", switch="always").json()
    assert (moved["layers"], moved["comparison"]["paired"]["held_out"]) == (["embedding"], 16)
    back = move(extractor="tapped", switch="always", layers="embedding,stage2").json()
    assert back["layers"] == tapped.get("/v1/heads/shades").json()["layers"] == ["embedding", "stage2"]
    assert tapped.get("/v1/heads/shades/versions/1").json()["layers"] == ["stage3"]
