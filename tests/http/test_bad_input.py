"""Bad input: each kind gets its documented error, in the one shape, and changes nothing."""

import io
import sqlite3
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from benchmarks.main_job import multipart
from benchmarks.server import Server

Photos = dict[str, list[Path]]
TABLES = ("heads", "examples", "versions", "head_files")
MIB = 1024 * 1024


@pytest.fixture
def unchanged(server: Server, teach: Callable[..., dict]) -> Callable[[], bool]:
    """Whether the database still holds what it held when the test began."""
    if not rows(server, "heads", "where name = 'guarded'"):
        teach("guarded")
    before = {table: rows(server, table) for table in TABLES}
    return lambda: {table: rows(server, table) for table in TABLES} == before


def rows(server: Server, table: str, where: str = "") -> list[tuple]:
    database = sqlite3.connect(f"file:{server.home / 'headstart.db'}?mode=ro", uri=True)
    try:
        return database.execute(f"select * from {table} {where}").fetchall()
    finally:
        database.close()


def check(response: httpx.Response, status: int, code: str) -> dict:
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code), response.text
    assert {"code", "message", "param", "request_id"} <= error.keys()
    assert error["request_id"] == response.headers["X-Request-ID"]
    return error


def png_bomb(side: int = 30_000) -> bytes:
    """A small file that claims to be side x side pixels, and would be: its zeros compress a thousandfold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * side)
    pixels = b"".join(packer.compress(row) for _ in range(side // 100)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


BAD_IMAGES = {
    "empty": (lambda photo: b"", 422, "empty_input"),
    "text as jpg": (lambda photo: b"not a picture at all\n" * 20, 415, "not_an_image"),
    "truncated jpeg": (lambda photo: photo[: len(photo) // 2], 422, "truncated_image"),
    "png bomb": (lambda photo: png_bomb(), 413, "image_too_large"),
    "svg": (lambda photo: b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not_an_image"),
    "larger than one input may be": (lambda photo: photo + bytes(33 * MIB), 413, "input_too_large"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_a_bad_image_is_refused_by_every_route(
    client: httpx.Client, photos: Photos, unchanged: Callable[[], bool], kind: str
) -> None:
    make, status, code = BAD_IMAGES[kind]
    bad = ("dog", ("bad.jpg", make(photos["dog"][0].read_bytes()), "image/jpeg"))
    good = multipart([("cat", photos["cat"][90])])
    for method, path in (
        ("PUT", "/v1/heads/never"),
        ("PUT", "/v1/heads/guarded"),
        ("POST", "/v1/heads/guarded/examples"),
        ("POST", "/v1/heads/guarded/predict"),
        ("POST", "/v1/embeddings"),
    ):
        error = check(client.request(method, path, files=[*good, bad]), status, code)
        assert [(item["index"], item["id"], item["code"]) for item in error["items"]] == [
            (1, "bad.jpg", code)
        ]
    assert unchanged()


def test_a_body_of_200_megabytes_is_refused_and_the_client_can_read_why(
    server: Server, tmp_path: Path, unchanged: Callable[[], bool]
) -> None:
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(200 * MIB)
    for method, path, form in (
        ("PUT", "/v1/heads/never", ["-F", f"cat=@{large}"]),
        ("POST", "/v1/heads/guarded/predict", ["--data-binary", f"@{large}"]),
        (
            "POST",
            "/v1/heads/guarded/predict",
            ["-H", "Transfer-Encoding: chunked", "--data-binary", f"@{large}"],
        ),
        ("POST", "/v1/heads/guarded/train", ["--data-binary", f"@{large}"]),
    ):
        done = subprocess.run(
            ["curl", "-s", "--noproxy", "*", "-w", "%{http_code}", "-X", method, *form, server.url + path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.endswith("413"), (path, done)
        assert "body_too_large" in done.stdout
    assert unchanged()


def test_support_sets_that_cannot_be_learned(
    client: httpx.Client, photos: Photos, unchanged: Callable[[], bool]
) -> None:
    one_class = multipart([("cat", path) for path in photos["cat"][:3]])
    check(client.put("/v1/heads/never", files=one_class), 422, "too_few_classes")
    check(client.put("/v1/heads/guarded", files=one_class), 422, "too_few_classes")
    check(client.put("/v1/heads/never", json={"examples": []}), 422, "no_inputs")
    check(client.put("/v1/heads/never"), 422, "label_required")
    both = multipart([("cat", photos["cat"][0]), ("dog", photos["cat"][0])])
    check(client.put("/v1/heads/never", files=both), 409, "label_conflict")
    check(client.post("/v1/heads/guarded/train", json={"classes": ["cat"]}), 422, "too_few_classes")
    check(client.post("/v1/heads/guarded/train", json={"classes": ["cat", "cow"]}), 422, "unknown_class")
    assert unchanged()


def test_labels_and_names_that_are_refused(
    client: httpx.Client, photos: Photos, unchanged: Callable[[], bool]
) -> None:
    photo = photos["cat"][0].read_bytes()
    for label, code in {
        "x" * 10_000: "label_too_long",
        " ": "invalid_label",
        "a\nb": "invalid_label",
    }.items():
        body = {"examples": [{"input": "aGVsbG8=", "label": label}]}
        check(client.put("/v1/heads/never", json=body), 422, code)
    check(client.put("/v1/heads/never", files=[("x" * 10_000, ("a.jpg", photo))]), 422, "label_too_long")
    check(client.put("/v1/heads/a%2Fb", files=[("cat", ("a.jpg", photo))]), 404, "not_found")
    check(client.put("/v1/heads/..%2F..%2Fetc", files=[("cat", ("a.jpg", photo))]), 404, "not_found")
    for name in ("a b", "-a", "x" * 129, "ü", "%00"):
        check(client.put(f"/v1/heads/{name}", files=[("cat", ("a.jpg", photo))]), 422, "invalid_parameter")
    assert unchanged()


def test_what_is_not_there_is_named(client: httpx.Client, unchanged: Callable[[], bool]) -> None:
    image = {"files": {"x": ("a.gif", b"GIF89a")}}
    for method, path, body in (
        ("GET", "/v1/heads/nobody", {}),
        ("DELETE", "/v1/heads/nobody", {}),
        ("POST", "/v1/heads/nobody/train", {}),
        ("POST", "/v1/heads/nobody/predict", image),
        ("POST", "/v1/heads/nobody/examples", image),
        ("GET", "/v1/heads/nobody/examples", {}),
        ("GET", "/v1/heads/nobody/versions", {}),
        ("POST", "/v1/heads/nobody/versions/1/publish", {}),
        ("DELETE", f"/v1/heads/nobody/examples/{'0' * 32}", {}),
    ):
        check(client.request(method, path, **body), 404, "head_not_found")
    check(client.get("/v1/heads/guarded/versions/99"), 404, "version_not_found")
    check(client.post("/v1/heads/guarded/versions/99/publish"), 404, "version_not_found")
    check(client.get(f"/v1/heads/guarded/examples/{'0' * 32}"), 404, "example_not_found")
    check(client.delete(f"/v1/heads/guarded/examples/{'0' * 32}"), 404, "example_not_found")
    check(client.get("/v1/extractors/nothing"), 404, "extractor_not_found")
    check(client.get("/nothing"), 404, "not_found")
    check(client.delete("/v1/heads"), 405, "method_not_allowed")
    assert unchanged()


def test_malformed_bodies_and_parameters(client: httpx.Client, unchanged: Callable[[], bool]) -> None:
    as_json = {"Content-Type": "application/json"}
    for body in (b"{", b"[1,", b'{"examples": NaN}', b"\xff\xfe", b'{"a":1}{"b":2}'):
        check(client.put("/v1/heads/never", content=body, headers=as_json), 400, "malformed_json")
    for body in (
        b"[]",
        b'"text"',
        b'{"examples": 1}',
        b'{"examples": [1]}',
        b'{"examples": [{"label": "a"}]}',
    ):
        assert client.put("/v1/heads/never", content=body, headers=as_json).status_code == 422
    unbounded = {"Content-Type": "multipart/form-data"}
    check(client.put("/v1/heads/never", content=b"x", headers=unbounded), 400, "malformed_multipart")
    packed = {"Content-Encoding": "gzip"}
    check(client.post("/v1/embeddings", content=b"x", headers=packed), 415, "unsupported_encoding")
    for query in ("top_k=0", "top_k=x", "threshold=2", "version=0", "nonsense=1", "on_error=explode"):
        answer = client.post(f"/v1/heads/guarded/predict?{query}", content=b"x")
        check(answer, 422, "invalid_parameter")
    both = {"input": "aGVsbG8=", "top_k": "many"}
    assert (
        check(client.post("/v1/heads/guarded/predict", json=both), 422, "invalid_parameter")["param"]
        == "top_k"
    )
    check(
        client.post("/v1/embeddings", json={"input": "aGVsbG8=", "dimensions": 7}), 422, "invalid_parameter"
    )
    check(client.post("/v1/embeddings", json={"input": "http://127.0.0.1/a.jpg"}), 422, "urls_disabled")
    assert unchanged()


def test_a_parameter_that_a_call_does_not_have_is_refused(
    client: httpx.Client, unchanged: Callable[[], bool]
) -> None:
    """A typing error must not train, publish or list something else than was meant."""
    example = (
        "/v1/heads/guarded/examples/" + client.get("/v1/heads/guarded/examples").json()["examples"][0]["id"]
    )
    for method, path in (
        ("GET", "/v1/extractors?nonsense=1"),
        ("GET", "/v1/heads?limt=1"),
        ("GET", "/v1/heads/guarded?nonsense=1"),
        ("DELETE", "/v1/heads/guarded?dry_run=true"),
        ("POST", "/v1/heads/guarded/train?nonsense=1"),
        ("GET", "/v1/heads/guarded/examples?lable=cat"),
        ("PATCH", f"{example}?tain=false"),
        ("DELETE", f"{example}?publish=false"),
        ("GET", "/v1/heads/guarded/versions?page=2"),
        ("POST", "/v1/heads/guarded/versions/1/publish?version=2"),
    ):
        body = {"json": {"label": "dog"}} if method == "PATCH" else {}
        error = check(client.request(method, path, **body), 422, "invalid_parameter")
        assert error["param"] == path.partition("?")[2].partition("=")[0]
    assert unchanged()


def test_a_zip_bomb_is_refused(client: httpx.Client, unchanged: Callable[[], bool]) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bundle:
        for i in range(20):
            bundle.writestr(f"cat/{i}.jpg", bytes(30 * MIB))
    check(client.put("/v1/heads/never", content=packed.getvalue()), 413, "archive_too_large")
    assert unchanged()


def test_one_bad_example_among_1001(
    client: httpx.Client, photos: Photos, unchanged: Callable[[], bool]
) -> None:
    from PIL import Image

    def small(i: int) -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", (16, 16), (i % 256, i // 256, 99)).save(stream, "PNG")
        return stream.getvalue()

    files = [("even" if i % 2 else "odd", (f"{i}.png", small(i), "image/png")) for i in range(1001)]
    good = photos["cat"][0].read_bytes()
    files[517] = ("cat", ("broken.jpg", good[: len(good) // 2], "image/jpeg"))
    error = check(client.put("/v1/heads/never", files=files), 422, "truncated_image")
    assert [(item["index"], item["id"]) for item in error["items"]] == [(517, "broken.jpg")]
    assert unchanged()

    taught = client.put("/v1/heads/skipped", files=files, params={"on_error": "skip"})
    assert taught.status_code == 201
    examples = taught.json()["examples"]
    assert (examples["added"], [item["index"] for item in examples["rejected"]]) == (1000, [517])
    client.delete("/v1/heads/skipped").raise_for_status()


def test_predictions_of_the_good_ones_keep_their_index(client: httpx.Client, photos: Photos, teach) -> None:
    teach("partly")
    files = [("x", ("bad.jpg", b"not an image")), *multipart([("x", photos["cat"][95])])]
    answer = client.post("/v1/heads/partly/predict", files=files, params={"on_error": "skip"}).json()
    assert [item["index"] for item in answer["predictions"]] == [1]
    assert [item["code"] for item in answer["rejected"]] == ["not_an_image"]


def test_a_request_id_is_kept_if_it_is_harmless(client: httpx.Client) -> None:
    assert client.get("/livez", headers={"X-Request-ID": "abc-1.2"}).headers["X-Request-ID"] == "abc-1.2"
    given = "x" * 500
    assert client.get("/livez", headers={"X-Request-ID": given}).headers["X-Request-ID"] != given
