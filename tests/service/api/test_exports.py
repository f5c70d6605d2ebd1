"""A head version as a file: which bytes, under which name, and what is refused."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from fastapi.testclient import TestClient

from service.engine import Engine
from tests.service.api.conftest import Teach, check, photographs
from training.heads import fit_head, load_head, save_head

FORMATS = ("head", "onnx", "fused")
EXPORT = "/v1/heads/shades/export"


def test_the_head_file_is_the_one_that_is_stored(
    client: TestClient, app_engine: Engine, teach: Teach
) -> None:
    teach("shades")
    client.post("/v1/heads/shades/train", json={"publish": False})
    head_id = app_engine.store.heads.get("shades").id
    for number in (1, 2):
        response = client.get(EXPORT, params={"version": number})
        assert response.content == app_engine.store.versions.file(head_id, number)
        disposition = response.headers["Content-Disposition"]
        assert disposition == f'attachment; filename="shades-v{number}.safetensors"'
        assert response.headers["Content-Type"] == "application/octet-stream"
    assert client.get(EXPORT).content == client.get(EXPORT, params={"version": 1}).content


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_has_its_digest_as_its_tag_and_is_sent_once(
    client: TestClient, teach: Teach, form: str
) -> None:
    teach("shades")
    first = client.get(EXPORT, params={"format": form})
    etag = first.headers["ETag"]
    assert etag == f'"{hashlib.sha256(first.content).hexdigest()}"'
    assert client.get(EXPORT, params={"format": form}).content == first.content
    for tags in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = client.get(EXPORT, params={"format": form}, headers={"If-None-Match": tags})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    other = client.get(EXPORT, params={"format": form}, headers={"If-None-Match": '"other"'})
    assert other.content == first.content


def test_the_files_answer_as_the_service_does(client: TestClient, app_engine: Engine, teach: Teach) -> None:
    teach("shades")
    asked = photographs(50, 60)
    predictions = client.post("/v1/heads/shades/predict", files=asked).json()["predictions"]
    extractor = app_engine.embedders.named(None).extractor
    pixels = np.stack([extractor.decode(data) for _, (_, data) in asked])
    inputs = {"onnx": {"embedding": extractor.embed(list(pixels))}, "fused": {"images": pixels}}
    for form, values in inputs.items():
        session = onnxruntime.InferenceSession(client.get(EXPORT, params={"format": form}).content)
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(None, values), strict=True))
        for row, prediction in enumerate(predictions):
            assert found["typicality"][row] == pytest.approx(prediction["typicality"], abs=1e-4)
            of_label = {item["label"]: item["probability"] for item in prediction["probabilities"]}
            expected = [of_label["dark"], of_label["light"]]
            assert found["probabilities"][row] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"format": "pickle"}, 422, "invalid_parameter"),
        ({"version": 0}, 422, "invalid_parameter"),
        ({"version": 2**31}, 422, "invalid_parameter"),
        ({"version": "x"}, 422, "invalid_parameter"),
        ({"as": "onnx"}, 422, "invalid_parameter"),
        ({"version": 9}, 404, "version_not_found"),
    ],
)
def test_what_cannot_be_exported(
    client: TestClient, teach: Teach, query: dict, status: int, code: str
) -> None:
    teach("shades")
    check(client.get(EXPORT, params=query), status, code)


def test_a_head_that_is_not_there_or_not_published(client: TestClient) -> None:
    check(client.get(EXPORT), 404, "head_not_found")
    client.put("/v1/heads/shades", files=photographs(0, 2), params={"train": False})
    check(client.get(EXPORT), 404, "version_not_found")


def test_a_fused_file_needs_the_extractor_as_it_was_loaded(
    client: TestClient, app_engine: Engine, teach: Teach, tmp_path: Path
) -> None:
    teach("shades")
    extractor = app_engine.embedders.named(None).extractor
    object.__setattr__(extractor, "folder", tmp_path)
    check(client.get(EXPORT, params={"format": "fused"}), 409, "extractor_mismatch")
    (tmp_path / "model.onnx").write_bytes(b"another")
    check(client.get(EXPORT, params={"format": "fused"}), 409, "extractor_mismatch")
    assert client.get(EXPORT, params={"format": "onnx"}).status_code == 200


def test_many_exports_at_once_give_the_same_bytes(client: TestClient, teach: Teach) -> None:
    teach("shades")
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda form: (form, client.get(EXPORT, params={"format": form})), FORMATS * 4))
    assert all(response.status_code == 200 for _, response in found)
    assert len({(form, response.content) for form, response in found}) == len(FORMATS)


def test_a_server_that_exports_nothing_does_not_load_onnx() -> None:
    probe = "import sys, service.api; raise SystemExit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def test_a_head_file_of_another_extractor_is_exported_but_not_fused(
    client: TestClient, app_engine: Engine, teach: Teach
) -> None:
    """As after the extractor was exported anew: the versions stay, and can be taken away."""
    teach("shades")
    head = load_head(client.get(EXPORT).content)
    random = np.random.default_rng(0)
    stranger = fit_head(
        random.normal(size=(6, head.dim)).astype(np.float32), list("ababab"), extractor_digest="1" * 64
    )
    exporter = app_engine.exporter
    with pytest.raises(Exception, match="not loaded"):
        exporter._onnx(save_head(stranger), "x", 1, fused=True)
    assert exporter._onnx(save_head(stranger), "x", 1, fused=False)
