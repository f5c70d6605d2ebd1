"""The bytes of examples over REST: which head keeps them, and that they come back harmless."""

import base64
from io import BytesIO
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.config import Settings
from service.engine import Engine
from tests.service.api.conftest import Teach, check, photographs
from tests.service.images import png


def examples_of(client: TestClient, name: str) -> list[dict]:
    return client.get(f"/v1/heads/{name}/examples").json()["examples"]


def image(kind: str, shade: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(buffer, kind)
    return buffer.getvalue()


def test_the_bytes_of_an_example_come_back_as_they_were(client: TestClient, teach: Teach) -> None:
    assert teach("pets")["keep_inputs"] is True
    assert client.get("/v1/heads/pets").json()["keep_inputs"] is True
    assert client.get("/v1/heads").json()["heads"][0]["keep_inputs"] is True
    posted = {name: data for _, (name, data) in photographs(0, 6)}
    for example in examples_of(client, "pets"):
        assert example["kept"] is True
        response = client.get(f"/v1/heads/pets/examples/{example['id']}/input")
        assert response.content == posted[example["source_id"]]
        assert response.headers["Content-Type"] == "image/png"


@pytest.mark.parametrize(
    ("kind", "media_type", "suffix"),
    [
        ("JPEG", "image/jpeg", "jpg"), ("PNG", "image/png", "png"), ("WEBP", "image/webp", "webp"),
        ("GIF", "image/gif", "gif"), ("BMP", "image/bmp", "bmp"), ("TIFF", "image/tiff", "tif"),
    ],
)  # fmt: skip
def test_the_type_is_what_the_bytes_say_and_no_name_of_a_client(
    client: TestClient, teach: Teach, kind: str, media_type: str, suffix: str
) -> None:
    teach("pets")
    name = '"; filename="evil.html'
    added = client.post("/v1/heads/pets/examples", files=[("dark", (name, image(kind, 7), "text/html"))])
    (example,) = added.json()["examples"]["ids"]
    headers = client.get(f"/v1/heads/pets/examples/{example}/input").headers
    assert headers["Content-Type"] == media_type
    assert headers["Content-Disposition"] == f'attachment; filename="{example}.{suffix}"'
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_head_without_inputs_says_so(client: TestClient, app_engine: Engine) -> None:
    made = client.put("/v1/heads/pets", params={"keep_inputs": "false"}, files=photographs(0, 6)).json()
    assert made["keep_inputs"] is False
    for example in examples_of(client, "pets"):
        assert example["kept"] is False
        error = check(client.get(f"/v1/heads/pets/examples/{example['id']}/input"), 404, "input_not_kept")
        assert "keep_inputs" in error["message"]
    assert not list(app_engine.store.blobs.entries("inputs"))


def test_the_choice_may_be_beside_the_inputs_of_a_json_body(client: TestClient) -> None:
    document = {
        "examples": [{"input": png_base64(shade), "label": label} for label, shade in (("a", 1), ("b", 250))],
        "keep_inputs": False,
        "train": False,
    }
    assert client.put("/v1/heads/pets", json=document).json()["keep_inputs"] is False
    check(client.put("/v1/heads/pets", json={**document, "keep_inputs": "x"}), 422, "invalid_parameter")
    check(
        client.post("/v1/heads/pets/examples?keep_inputs=true", files=photographs(9, 10)),
        422,
        "invalid_parameter",
    )


def png_base64(shade: int) -> str:
    return base64.b64encode(png(shade)).decode()


def test_what_is_removed_is_gone_from_the_disk(client: TestClient, teach: Teach, settings: Settings) -> None:
    teach("pets")

    def files() -> list[Path]:
        return [path for path in Path(settings.resolved_blob_url).rglob("*") if path.is_file()]

    assert len(files()) == 12
    first, *_ = examples_of(client, "pets")
    assert client.delete(f"/v1/heads/pets/examples/{first['id']}").status_code == 200
    check(client.get(f"/v1/heads/pets/examples/{first['id']}/input"), 404, "example_not_found")
    assert len(files()) == 11
    client.patch("/v1/heads/pets/examples", params={"label": "light"}, json={"label": "bright"})
    assert len(files()) == 11
    client.delete("/v1/heads/pets/examples", params={"label": "bright", "train": "false"})
    assert len(files()) == 5
    teach("pets", 20, 22)
    assert len(files()) == 4
    assert client.put("/v1/heads/pets?keep_inputs=false", files=photographs(0, 2)).status_code == 201
    assert files() == []
    client.put("/v1/heads/pets?keep_inputs=true", files=photographs(0, 2))
    assert len(files()) == 4
    assert client.delete("/v1/heads/pets").status_code == 204
    assert files() == []


def test_an_unreachable_place_is_503_and_changes_nothing(
    client: TestClient, teach: Teach, settings: Settings
) -> None:
    place = Path(settings.resolved_blob_url)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"")
    response = client.put("/v1/heads/pets", files=photographs(0, 6))
    check(response, 503, "store_unavailable")
    assert response.headers["Retry-After"]
    check(client.get("/v1/heads/pets"), 404, "head_not_found")
    assert client.put("/v1/heads/pets?keep_inputs=false", files=photographs(0, 6)).status_code == 201
    place.unlink()
    assert teach("pets")["version"] == 2


def test_an_imported_head_keeps_what_it_gets_later(client: TestClient, teach: Teach) -> None:
    teach("pets")
    exported = client.get("/v1/heads/pets/export").content
    response = client.post(
        "/v1/heads/copy/versions", content=exported, headers={"Content-Type": "application/octet-stream"}
    )
    assert response.status_code == 201, response.text
    assert client.get("/v1/heads/copy").json()["keep_inputs"] is True
    client.post("/v1/heads/copy/examples?train=false", files=photographs(0, 2))
    assert all(example["kept"] for example in examples_of(client, "copy"))
