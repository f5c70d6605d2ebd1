"""Heads with their examples as one file: what comes back, what is refused and then changes nothing."""

import hashlib
import io
import json
import random
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.api import create_app
from service.config import Settings
from service.engine import Engine
from service.learning.train_options import TrainOptions
from service.preparation import prepare
from service.store import Caller, Limits, QuotaExceededError
from tests.service.api.conftest import Teach, check, photographs
from tests.service.images import png
from training.heads import load_head

EXPORT = "/v1/heads/shades/export"
Files = dict[str, bytes]


@pytest.fixture
def archive(client: TestClient, teach: Teach) -> bytes:
    """A head of two versions, the second with options of its own and fewer classes than examples."""
    teach("shades")
    client.post("/v1/heads/shades/examples?train=false", files=[("__none__", ("n.png", png(77)))])
    client.post("/v1/heads/shades/train?regularisation=0.02&transform=l2")
    return client.get(EXPORT, params={"format": "archive"}).content


@pytest.fixture
def other(settings: Settings, tmp_path: Path) -> Iterator[TestClient]:
    """Another server, on SQLite, that keeps no inputs by itself."""
    there = replace(settings, home=tmp_path / "other", database_url="", keep_inputs=False)
    prepare(there)
    with TestClient(create_app(there)) as client:
        yield client


def post(client: TestClient, name: str, data: bytes):  # type: ignore[no-untyped-def]
    return client.post(f"/v1/heads/{name}/import", content=data)


def predicted(client: TestClient, name: str) -> list[dict]:
    response = client.post(f"/v1/heads/{name}/predict", files=photographs(50, 54))
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def listed(client: TestClient, name: str) -> list[tuple]:
    found = client.get(f"/v1/heads/{name}/examples", params={"limit": 1000}).json()["examples"]
    return [(row["label"], row["sha256"], row["source_id"], row["size_bytes"], row["kept"]) for row in found]


def trained(client: TestClient, name: str) -> bytes:
    version = client.post(f"/v1/heads/{name}/train").json()["version"]
    exported = client.get(f"/v1/heads/{name}/export", params={"version": version}).content
    return load_head(exported).weights.tobytes()


def unpacked(data: bytes) -> Files:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def packed(files: Files, form: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=form) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def test_a_head_comes_back_with_its_examples_and_learns_the_same(
    client: TestClient, other: TestClient, archive: bytes
) -> None:
    response = post(other, "copy", archive)
    assert response.status_code == 201, response.text
    described, was = response.json(), client.get("/v1/heads/shades").json()
    for same in ("task", "classes", "negatives", "examples", "keep_inputs", "report", "extractor"):
        assert described[same] == was[same]
    assert (described["published_version"], described["last_version"]) == (1, 1)
    assert predicted(other, "copy") == predicted(client, "shades")
    assert listed(other, "copy") == listed(client, "shades")
    assert trained(other, "copy") == trained(client, "shades")
    example = other.get("/v1/heads/copy/examples").json()["examples"][0]
    data = other.get(f"/v1/heads/copy/examples/{example['id']}/input").content
    assert hashlib.sha256(data).hexdigest() == example["sha256"]
    assert other.post("/v1/heads/copy/examples", files=photographs(20, 22)).status_code == 201


def test_the_file_is_the_same_each_time_and_has_its_digest_as_tag(client: TestClient, archive: bytes) -> None:
    response = client.get(EXPORT, params={"format": "archive"})
    assert response.content == archive
    assert response.headers["ETag"] == f'"{hashlib.sha256(archive).hexdigest()}"'
    assert response.headers["Content-Length"] == str(len(archive))
    assert response.headers["Content-Disposition"] == 'attachment; filename="shades-v2.tar"'
    again = client.get(
        EXPORT, params={"format": "archive"}, headers={"If-None-Match": response.headers["ETag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    first = unpacked(client.get(EXPORT, params={"format": "archive", "version": 1}).content)
    assert first["head.safetensors"] == client.get(EXPORT, params={"version": 1}).content
    assert unpacked(archive)["head.safetensors"] == client.get(EXPORT).content
    check(client.get(EXPORT, params={"format": "archive", "version": 9}), 404, "version_not_found")


def test_a_head_that_keeps_nothing_and_has_several_labels_comes_back(
    client: TestClient, other: TestClient
) -> None:
    files = [*photographs(0, 4), *[("warm", file) for _, file in photographs(0, 2)]]
    made = client.put("/v1/heads/many?task=multi_label&keep_inputs=false", files=files)
    assert made.status_code == 201, made.text
    data = client.get("/v1/heads/many/export?format=archive").content
    assert not [name for name in unpacked(data) if name.startswith("inputs/")]
    assert post(other, "many", data).status_code == 201
    assert listed(other, "many") == listed(client, "many")
    assert predicted(other, "many") == predicted(client, "many")
    assert trained(other, "many") == trained(client, "many")


def test_a_head_goes_to_another_tenant_as_far_as_its_quota_allows(
    app_engine: Engine, client: TestClient, archive: bytes
) -> None:
    app_engine.store.tenants.create("shop", Limits())
    app_engine.store.tenants.create("small", Limits(examples=5))
    shop, small = (app_engine.of(Caller(tenant=name)) for name in ("shop", "small"))
    file = app_engine.archives.place()
    file.write(archive)
    file.flush()
    head = shop.archives.take("shades", file)
    assert (head.tenant, head.published_version) == ("shop", 1)
    mine = app_engine.store.heads.get("shades")
    taught = shop.learner.train("shades", TrainOptions(said=frozenset()))
    again = app_engine.learner.train("shades", TrainOptions(said=frozenset()))
    assert taught.trained
    assert again.trained
    assert taught.trained.weights.tobytes() == again.trained.weights.tobytes()
    blobs = len(list(app_engine.store.blobs.entries("inputs")))
    with pytest.raises(QuotaExceededError):
        small.archives.take("shades", file)
    assert len(list(app_engine.store.blobs.entries("inputs"))) == blobs
    assert small.store.heads.find("shades") is None
    shop.store.heads.delete("shades")
    assert app_engine.store.inputs.of(mine.id)
    file.close()


def test_a_name_that_is_taken_is_refused(client: TestClient, archive: bytes) -> None:
    before = client.get("/v1/heads/shades").json()
    check(post(client, "shades", archive), 409, "head_exists")
    assert client.get("/v1/heads/shades").json() == before


def test_another_extractor_is_refused(settings: Settings, second_folder: Path, archive: bytes) -> None:
    there = replace(
        settings, home=settings.home / "second", database_url="", extractors=(str(second_folder),)
    )
    prepare(there)
    with TestClient(create_app(there)) as client:
        check(post(client, "copy", archive), 409, "extractor_mismatch")


def _manifest(files: Files, /, **changed: object) -> Files:
    document = json.loads(files["manifest.json"])
    return {**files, "manifest.json": json.dumps(document | changed).encode()}


def _resealed(files: Files, **replaced: bytes) -> Files:
    """Other files under the digests that they have."""
    names = {"head": "head.safetensors", "examples": "examples.ndjson", "embeddings": "embeddings.f32"}
    files = files | {names[name]: data for name, data in replaced.items()}
    sums = {
        name: {"sha256": hashlib.sha256(files[name]).hexdigest(), "size_bytes": len(files[name])}
        for name in names.values()
    }
    return _manifest(files, files=sums)


def _input(files: Files) -> str:
    return next(name for name in files if name.startswith("inputs/"))


def _first_line(files: Files, **changed: object) -> Files:
    first, *others = files["examples.ndjson"].splitlines(keepends=True)
    line = json.dumps(json.loads(first) | changed).encode() + b"\n"
    return _resealed(files, examples=b"".join([line, *others]))


def _flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


HOSTILE: dict[str, Callable[[Files], Files]] = {
    "another format": lambda files: _manifest(files, format="other"),
    "a later format": lambda files: _manifest(files, format_version=2),
    "no manifest": lambda files: {name: data for name, data in files.items() if name != "manifest.json"},
    "manifest not json": lambda files: files | {"manifest.json": b"[" * 100_000},
    "a damaged head": lambda files: files | {"head.safetensors": _flipped(files["head.safetensors"])},
    "damaged embeddings": lambda files: files | {"embeddings.f32": _flipped(files["embeddings.f32"])},
    "numbers that are none": lambda files: _resealed(
        files, embeddings=b"\xff\xff\xff\xff" + files["embeddings.f32"][4:]
    ),
    "too few rows": lambda files: _resealed(files, embeddings=files["embeddings.f32"][:-64]),
    "rows of nothing": lambda files: _manifest(
        _resealed(files, embeddings=b""),
        extractor={**json.loads(files["manifest.json"])["extractor"], "width": 0},
    ),
    "fewer examples": lambda files: _manifest(files, examples=2),
    "more examples": lambda files: _manifest(files, examples=100),
    "a damaged input": lambda files: files | {_input(files): _flipped(files[_input(files)])},
    "a missing input": lambda files: {name: data for name, data in files.items() if name != _input(files)},
    "a foreign input": lambda files: _manifest(
        files | {f"inputs/{hashlib.sha256(png(9)).hexdigest()}": png(9)}, inputs=14
    ),
    "a path": lambda files: files | {"../evil": b"x"},
    "a file more": lambda files: files | {"inputs/x": b"x"},
    "an input without keeping": lambda files: _manifest(files, keep_inputs=False),
    "a huge count": lambda files: _manifest(files, inputs=10**30),
    "options out of bounds": lambda files: _manifest(
        files, version={"number": 1, "examples": 1, "fit": {"unknown_rate": 7}}
    ),
    "an option beyond every float": lambda files: _manifest(
        files, version={"number": 1, "examples": 1, "fit": {"regularisation": 10**400}}
    ),
    "another task": lambda files: _manifest(files, task="multi_label"),
    "a label twice": lambda files: _resealed(
        files, examples=files["examples.ndjson"].splitlines(keepends=True)[0] + files["examples.ndjson"]
    ),
    "a long line": lambda files: _resealed(files, examples=b" " * 20_000 + files["examples.ndjson"]),
    "a size that is wrong": lambda files: _first_line(files, size_bytes=5),
    "a sha256 that is none": lambda files: _first_line(files, sha256="../../x"),
}


def test_hostile_and_damaged_files_change_nothing(
    client: TestClient, app_engine: Engine, archive: bytes
) -> None:
    files = unpacked(archive)
    blobs = len(list(app_engine.store.blobs.entries("inputs")))
    bodies = {name: packed(change(files)) for name, change in HOSTILE.items()}
    bodies |= {
        "nothing": b"",
        "cut off": archive[: len(archive) // 2],
        "cut off at a file": archive[:-20_000],
        "something behind": archive + b"x",
        "a long header": packed(files | {"inputs/" + "x" * 300: b"x"}, tarfile.PAX_FORMAT),
        "a link": _linked(files),
    }
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("manifest.json", bytes(50_000_000))
    bodies["a zip bomb"] = buffer.getvalue()
    for name, body in bodies.items():
        response = post(client, "evil", body)
        assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_head_archive"), name
    check(post(client, "evil", packed(_first_line(files, label="__x"))), 422, "invalid_label")
    check(post(client, "evil", packed(_first_line(files, id=""))), 422, "invalid_id")
    check(post(client, "evil", packed(_resealed(files, head=b"x"))), 422, "invalid_head_file")
    assert client.get("/v1/heads/evil").status_code == 404
    assert len(list(app_engine.store.blobs.entries("inputs"))) == blobs
    assert [row.head.name for row in app_engine.store.heads.list().items] == ["shades"]


def _linked(files: Files) -> bytes:
    buffer = io.BytesIO(packed(files))
    with tarfile.open(fileobj=buffer, mode="a:") as archive:
        link = tarfile.TarInfo("inputs/" + "0" * 64)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return buffer.getvalue()


def test_random_damage_is_found(client: TestClient, archive: bytes) -> None:
    rng = random.Random(0)
    for number in range(60):
        data = bytearray(archive)
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
        response = post(client, f"damaged{number}", bytes(data))
        if response.status_code == 201:  # only what nobody reads: owners, modes, the space between files
            assert unpacked(bytes(data)) == unpacked(archive), place
        else:
            assert response.status_code in (409, 413, 422), response.text


def test_limits_are_refused(settings: Settings, tmp_path: Path, archive: bytes) -> None:
    for limit, status, code in (
        ({"max_head_archive_bytes": len(archive) - 1}, 413, "body_too_large"),
        ({"max_input_bytes": 1024}, 413, "input_too_large"),
        ({"max_body_bytes": 1024}, 413, "archive_too_large"),
    ):
        if "max_input_bytes" in limit:
            limit["max_input_bytes"] = 10
        there = replace(settings, home=tmp_path / code, database_url="", **limit)
        prepare(there)
        with TestClient(create_app(there)) as client:
            check(post(client, "copy", archive), status, code)


def noise(number: int) -> bytes:
    """An image of some 190 KiB that does not compress."""
    pixels = random.Random(number).randbytes(256 * 256 * 3)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (256, 256), pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_memory_does_not_grow_with_the_archive(client: TestClient, app_engine: Engine) -> None:
    files = [(label, (f"{number}.png", noise(number))) for number in range(60) for label in "ab"[number % 2]]
    assert client.put("/v1/heads/large", files=files).status_code == 201
    tracemalloc.start()
    archive = app_engine.archives.write("large", None)
    with archive.file:
        app_engine.archives.take("copy", archive.file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert archive.size_bytes > 60 * 190_000
    assert peak < 0.3 * archive.size_bytes
