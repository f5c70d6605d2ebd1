"""Every limit holds while the body streams, whatever the headers say."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from service.errors import ApiError
from service.ingest import read_batch
from service.ingest.archive import Allowance, unpack
from tests.service.ingest.asking import (
    FORM,
    JSON,
    SMALL,
    faults,
    form,
    make_request,
    make_zip,
    part,
    read,
    read_json,
)

MIB = 1 << 20


def refusal(*args: Any, **kwargs: Any) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        read(*args, **kwargs)
    return caught.value.status, caught.value.code


@pytest.mark.parametrize("content_type", [None, JSON, FORM])
def test_body_limit_is_counted_and_the_connection_is_to_close(content_type: str | None) -> None:
    body = form(part("cat", bytes(SMALL.max_body_bytes)))
    with pytest.raises(ApiError) as caught:
        read(body, content_type, label=None if content_type == FORM else "cat")
    assert (caught.value.status, caught.value.code) == (413, "body_too_large")
    assert caught.value.headers == {"Connection": "close"}


def test_a_body_of_exactly_the_limit_is_read() -> None:
    settings = replace(SMALL, max_input_bytes=SMALL.max_body_bytes)
    assert len(read(bytes(settings.max_body_bytes), label="x", settings=settings).inputs) == 1
    assert refusal(bytes(settings.max_body_bytes + 1), label="x", settings=settings)[0] == 413


@pytest.mark.parametrize("length", [str(MIB + 1), "9" * 5000])
def test_a_content_length_over_the_limit_is_refused_before_any_byte_is_read(length: str) -> None:
    async def main() -> None:
        request = make_request(b"x", headers={"content-length": length})
        with pytest.raises(ApiError) as caught:
            await read_batch(request, SMALL, labelled=False)
        assert caught.value.code == "body_too_large"
        assert (await request.receive())["body"] == b"x"

    anyio.run(main)


def test_a_content_length_that_lies_low_does_not_help() -> None:
    assert refusal(bytes(2 * MIB), label="x", headers={"content-length": "5"}) == (413, "body_too_large")


def test_an_input_over_the_limit_is_an_item_error_in_every_form() -> None:
    large = bytes(SMALL.max_input_bytes + 1)
    data_uri = "data:," + "a" * len(large)
    expected = [(0, 413, "input_too_large")]
    assert faults(read(large, label="cat")) == expected
    assert faults(read(form(part("cat", large), part("cat", b"x")), FORM)) == expected
    assert faults(read(make_zip([("cat/a", large), ("cat/b", b"x")]))) == expected
    assert faults(read_json({"input": [data_uri, "AAAA"]}, labelled=False)) == expected
    assert faults(read(bytes(SMALL.max_input_bytes), label="cat")) == []


def test_one_input_more_than_the_limit_refuses_the_request_in_every_form() -> None:
    settings = replace(SMALL, max_inputs=3)
    files = [(f"cat/{i}", b"x") for i in range(4)]
    requests: list[Callable[[int], Any]] = [
        lambda n: read(form(*[part("cat", b"x")] * n), FORM, settings=settings),
        lambda n: read(make_zip(files[:n]), settings=settings),
        lambda n: read(
            form(part("z", make_zip(files[:2])), *[part("c", b"x")] * (n - 2)), FORM, settings=settings
        ),
        lambda n: read(form(part("c", b"x"), part("z", make_zip(files[: n - 1]))), FORM, settings=settings),
        lambda n: read_json({"input": ["AAAA"] * n}, labelled=False, settings=settings),
        lambda n: read_json({"examples": [{"input": "AAAA", "label": "c"}] * n}, settings=settings),
    ]
    for ask in requests:
        assert ask(3).total == 3
        with pytest.raises(ApiError) as caught:
            ask(4)
        assert (caught.value.status, caught.value.code) == (413, "too_many_inputs")


def test_too_many_parts_are_noticed_while_they_arrive() -> None:
    async def main() -> None:
        request = make_request(form(*[part("cat", bytes(1000))] * 500), FORM, chunk_bytes=1000)
        with pytest.raises(ApiError) as caught:
            await read_batch(request, SMALL, labelled=True)
        assert caught.value.code == "too_many_inputs"
        assert (await request.receive())["more_body"]

    anyio.run(main)


def test_each_label_of_an_input_takes_a_place() -> None:
    labels = [str(number) for number in range(SMALL.max_inputs)]
    assert read_json({"examples": [{"input": "AAAA", "labels": labels}]}).inputs[0].labels == tuple(labels)
    for examples in (
        [{"input": "AAAA", "labels": [*labels, "one more"]}],
        [{"input": "AAAA", "labels": labels}, {"input": "AAAA", "label": "cat"}],
    ):
        with pytest.raises(ApiError) as caught:
            read_json({"examples": examples})
        assert (caught.value.status, caught.value.code) == (413, "too_many_inputs")


def test_more_parts_and_larger_text_fields_than_common_defaults_allow() -> None:
    settings = replace(SMALL, max_inputs=3000, max_body_bytes=8 * MIB, max_input_bytes=4 * MIB)
    assert read(form(*[part("cat", b"x")] * 2500), FORM, settings=settings).total == 2500
    text = b"A" * (3 * MIB)
    assert (
        len(read(form(part("cat", text, None)), FORM, settings=settings).inputs[0].data) == len(text) * 3 // 4
    )


@pytest.mark.parametrize("body", [b"[" + b"[]," * 300_000 + b"[]]", b'["",' + b'"",' * 300_000 + b'""]'])
def test_json_of_many_tiny_values_is_refused_before_it_becomes_objects(body: bytes) -> None:
    tracemalloc.start()
    try:
        assert refusal(body, JSON, labelled=False) == (413, "too_many_inputs")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 * len(body)


# Archives


def invalid(data: bytes) -> str:
    with pytest.raises(ApiError) as caught:
        read(data)
    assert (caught.value.status, caught.value.code) == (422, "invalid_archive")
    return caught.value.message


def test_a_bomb_inside_one_archive_stops_at_the_limits() -> None:
    bomb = make_zip([(f"cat/{i}", bytes(8 * MIB)) for i in range(4)])
    assert len(bomb) < SMALL.max_body_bytes
    assert [code for _, _, code in faults(read(bomb))] == ["input_too_large"] * 4
    wide = replace(SMALL, max_input_bytes=16 * MIB)
    assert refusal(bomb, settings=wide) == (413, "archive_too_large")


def test_archives_of_one_request_share_the_limit() -> None:
    settings = replace(SMALL, max_input_bytes=MIB)
    bomb = make_zip({"cat/a": bytes(700_000)})
    assert read(form(part("z", bomb)), FORM, settings=settings).total == 1
    assert refusal(form(part("z", bomb), part("z", bomb)), FORM, settings=settings) == (
        413,
        "archive_too_large",
    )
    oversized = make_zip({"cat/a": bytes(4 * MIB)})
    many = form(*[part("z", oversized)] * 40)
    assert refusal(many, FORM) == (413, "archive_too_large")


def test_the_declared_size_is_not_believed() -> None:
    data = bytearray(make_zip({"cat/a": bytes(4 * MIB)}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = struct.pack("<I", 10)
    invalid(bytes(data))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = struct.pack("<I", 0xFFFF_FFF0)
    assert faults(read(bytes(data))) == [(0, 413, "input_too_large")]


def overlapping_bomb(entries: int, kernel_bytes: int) -> bytes:
    """Many directory entries that all point at one compressed kernel."""
    kernel = zlib.compress(bytes(kernel_bytes), 9)[2:-4]
    crc = zlib.crc32(bytes(kernel_bytes))
    sizes = struct.pack("<III", crc, len(kernel), kernel_bytes)
    local = (
        b"PK\x03\x04" + struct.pack("<HHHHH", 20, 0, 8, 0, 0) + sizes + struct.pack("<HH", 5, 0) + b"cat/a"
    )
    entry = (
        b"PK\x01\x02" + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 0) + sizes
        + struct.pack("<HHHHHII", 5, 0, 0, 0, 0, 0, 0) + b"cat/a"
    )  # fmt: skip
    start = len(local) + len(kernel)
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, entries, entries, len(entry) * entries, start, 0)
    return local + kernel + entry * entries + end


def test_a_bomb_of_overlapping_files_is_refused() -> None:
    assert read(overlapping_bomb(1, 1000)).inputs[0].data == bytes(1000)
    assert "overlap" in invalid(overlapping_bomb(40, 60_000_000))


def test_a_directory_of_too_many_entries_is_refused_before_it_is_parsed() -> None:
    entry = b"PK\x01\x02" + bytes(42)
    count = 20_000
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, len(entry) * count, 0, 0)
    tracemalloc.start()
    try:
        data = entry * count + end
        with pytest.raises(ApiError, match="HEADSTART_MAX_INPUTS"):
            unpack(data, Allowance(50, 1 << 16, MIB))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3 * len(data)


def test_a_directory_bloated_with_extra_fields_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for i in range(10):
            info = zipfile.ZipInfo(f"cat/{i}")
            info.extra = struct.pack("<HH", 0xCAFE, 0) * 10_000
            archive.writestr(info, b"x")
    assert "directory" in invalid(out.getvalue())


def test_encrypted_and_unsupported_archives_are_invalid() -> None:
    plain = bytearray(make_zip({"cat/a": b"x" * 100}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        plain[plain.index(signature) + offset] |= 1
    assert "encrypted" in invalid(bytes(plain))
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert "another method" in invalid(make_zip({"cat/a": b"x" * 100}, method))


def test_every_truncation_of_an_archive_is_invalid() -> None:
    data = make_zip({"cat/a": bytes(range(256)) * 4, "dog/b": b"woof"})
    for length in range(4, len(data), 5):
        invalid(data[:length])


def test_a_damaged_file_makes_the_archive_invalid() -> None:
    data = bytearray(make_zip({"cat/a": bytes(range(256))}, zipfile.ZIP_STORED))
    data[100] ^= 1
    assert "CRC" in invalid(bytes(data))


ARCHIVES = {
    "zip": make_zip({"cat/a": b"x"}),
    "gzip": gzip.compress(b"x"),
    "bzip2": bz2.compress(b"x"),
    "xz": lzma.compress(b"x"),
    "zstd": b"\x28\xb5\x2f\xfd\x00",
    "rar": b"Rar!\x1a\x07\x00",
    "7z": b"7z\xbc\xaf\x27\x1c",
    "tar": tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT),
}


@pytest.mark.parametrize("content", ARCHIVES.values(), ids=ARCHIVES)
def test_an_archive_in_an_archive_is_an_item_error(content: bytes) -> None:
    batch = read(make_zip([("cat/nested.zip", content), ("cat/b", b"x")]))
    assert faults(batch) == [(0, 422, "nested_archive")]
    assert [item.data for item in batch.inputs] == [b"x"]


def test_an_empty_archive_has_no_inputs() -> None:
    assert read(make_zip({})).total == 0
