"""Blobs: the same on a local folder and on an S3 server, all of a blob or nothing, and clear errors."""

import multiprocessing
import multiprocessing.connection
import os
import resource
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.store import BlobNotFoundError, BlobStore, BlobUrlError, StoreUnavailableError
from tests.service.store.s3 import BUCKET, CREDENTIALS, free_port, running_s3

KILLS = 3


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, running_s3() as endpoint:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}.items():
            patch.setenv(name, value)
        yield f"s3://{BUCKET}/some/prefix"


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "blobs") if request.param == "folder" else request.getfixturevalue("s3_url")


@pytest.fixture
def blobs(url: str) -> Iterator[BlobStore]:
    blobs = BlobStore.open(url)
    yield blobs
    blobs.delete([entry.key for entry in blobs.entries("inputs/")])


def test_a_blob_comes_back_for_everyone_and_can_be_replaced(blobs: BlobStore, url: str) -> None:
    data = os.urandom(300_000)
    blobs.put("inputs/ab/one", data)
    other = BlobStore.open(url)
    assert other.get("inputs/ab/one") == data
    other.put("inputs/ab/one", b"")
    assert blobs.get("inputs/ab/one") == b""


def test_what_was_deleted_is_gone_and_deleting_again_is_fine(blobs: BlobStore) -> None:
    for name in ("one", "two", "three"):
        blobs.put(f"inputs/ab/{name}", name.encode())
    blobs.delete(["inputs/ab/one", "inputs/ab/absent", "inputs/cd/absent", "inputs/ab/two"])
    blobs.delete(["inputs/ab/one", "inputs/ab/two"])
    blobs.delete([])
    assert [entry.key for entry in blobs.entries("inputs")] == ["inputs/ab/three"]
    with pytest.raises(BlobNotFoundError, match="inputs/ab/one"):
        blobs.get("inputs/ab/one")


def test_entries_tell_key_size_and_age_of_what_is_below_a_folder(blobs: BlobStore) -> None:
    blobs.put("inputs/ab/one", b"12345")
    blobs.put("inputs/cd/two", b"1")
    assert list(blobs.entries("nothing/here")) == []
    found = {entry.key: entry for entry in blobs.entries("inputs/")}
    assert {key: entry.size_bytes for key, entry in found.items()} == {"inputs/ab/one": 5, "inputs/cd/two": 1}
    assert [entry.key for entry in blobs.entries("inputs/a")] == []
    assert [entry.key for entry in blobs.entries("inputs/ab")] == ["inputs/ab/one"]
    assert abs(found["inputs/ab/one"].modified_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_listing_is_never_of_yesterday(blobs: BlobStore, url: str) -> None:
    other = BlobStore.open(url)
    blobs.put("inputs/ab/one", b"1")
    assert len(list(blobs.entries("inputs"))) == 1
    other.put("inputs/ab/two", b"2")
    assert len(list(blobs.entries("inputs"))) == 2
    other.delete(["inputs/ab/one", "inputs/ab/two"])
    assert not list(blobs.entries("inputs"))


def test_many_threads_may_write_at_once(blobs: BlobStore) -> None:
    keys = [f"inputs/{number % 7:02}/{number}" for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: blobs.put(key, key.encode()), keys))
        assert list(pool.map(blobs.get, keys)) == [key.encode() for key in keys]


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "a/.hidden", "a*", "a b"]
)
def test_a_key_is_a_path_of_plain_names(tmp_path: Path, key: str) -> None:
    blobs = BlobStore.open(str(tmp_path))
    for call in (lambda: blobs.put(key, b""), lambda: blobs.get(key), lambda: blobs.delete([key])):
        with pytest.raises(ValueError, match="plain names"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "problem"),
    [("memory://blobs", "several processes"), ("nosuch://bucket", "nosuch"), ("gs://bucket/x", "package")],
)
def test_a_url_that_cannot_be_used_says_why(url: str, problem: str) -> None:
    with pytest.raises(BlobUrlError, match=problem):
        BlobStore.open(url)


def test_a_server_that_is_not_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    blobs = BlobStore.open("s3://unreached")
    for call in (
        lambda: blobs.put("inputs/ab/one", b"1"),
        lambda: blobs.get("inputs/ab/one"),
        lambda: blobs.delete(["inputs/ab/one"]),
        lambda: list(blobs.entries("inputs")),
    ):
        with pytest.raises(StoreUnavailableError, match="cannot be used now: s3://unreached"):
            call()


def test_a_password_in_the_url_is_never_shown() -> None:
    with pytest.raises(StoreUnavailableError) as error:
        BlobStore.open(f"ftp://user:secret@127.0.0.1:{free_port()}/blobs")
    assert "secret" not in str(error.value)


def test_a_server_that_never_answers_a_write_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.blobs.PATIENCE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}.items():
            monkeypatch.setenv(name, value)
        start_s = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="cannot be used now"):
            BlobStore.open("s3://silent").put("inputs/ab/one", b"1")
        assert time.monotonic() - start_s < 10


def test_a_bucket_that_is_not_there_cannot_be_written_to(s3_url: str) -> None:
    with pytest.raises(StoreUnavailableError):
        BlobStore.open("s3://nosuchbucket/x").put("inputs/ab/one", b"1")


def test_a_folder_that_cannot_be_made_or_was_taken_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailableError, match="file"):
        BlobStore.open(str(tmp_path / "file")).put("inputs/ab/one", b"1")
    blobs = BlobStore.open(f"file://{tmp_path / 'blobs'}")
    blobs.put("inputs/ab/one", b"1")
    shutil.rmtree(tmp_path / "blobs")
    blobs.put("inputs/ab/one", b"2")
    assert blobs.get("inputs/ab/one") == b"2"


def test_a_write_that_the_disk_refuses_leaves_nothing_and_the_old_bytes(tmp_path: Path) -> None:
    blobs = BlobStore.open(str(tmp_path))
    blobs.put("inputs/ab/one", b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        for key in ("inputs/ab/one", "inputs/ab/two"):
            with pytest.raises(StoreUnavailableError, match="cannot be used now"):
                blobs.put(key, b"new" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [tmp_path / "inputs/ab/one"]
    assert blobs.get("inputs/ab/one") == b"old"


def _write_for_ever(folder: str, pipe: multiprocessing.connection.Connection) -> None:
    blobs = BlobStore.open(folder)
    for number in range(10_000_000):
        blobs.put(f"inputs/{number % 7}/{number}", number.to_bytes(4, "big") * 50_000)
        pipe.send(number)


def test_a_killed_writer_leaves_no_half_of_a_blob_under_its_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    blobs = BlobStore.open(str(tmp_path))
    for _ in range(KILLS):
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=_write_for_ever, args=(str(tmp_path), writer))
        process.start()
        writer.close()
        last = [reader.recv() for _ in range(5)][-1]
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        found = {entry.key: entry for entry in blobs.entries("inputs")}
        assert {int(key.split("/")[2]) for key in found} >= set(range(last + 1))
        for key, entry in found.items():
            assert blobs.get(key) == int(key.split("/")[2]).to_bytes(4, "big") * 50_000
            assert entry.size_bytes == 200_000
        blobs.delete(list(found))
        reader.close()
