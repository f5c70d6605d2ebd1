"""What is fuzzed: for each format its reader, the files to start from, and what must hold.

A target returns, or raises what its reader documents; anything else is a find. Each is about what a client
may send: images, archives, forms, JSON, the headers of a request, head files, head archives, URLs.
"""

import asyncio
import ipaddress
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import orjson

from service.config import Settings
from service.errors import ApiError
from service.ingest import RemotePolicy, read_batch
from service.ingest.address import is_public
from service.routes.lines import wants_lines
from tests.fuzz.head_archives import Mutate, mutate_head_archive
from tests.fuzz.repairs import repair_head_file, repair_png, repair_zip
from tests.fuzz.taking import head_archives, run_head_archive
from tests.service.ingest.asking import (
    FORM,
    JSON,
    SMALL,
    check_batch,
    check_refusal,
    form,
    make_request,
    make_zip,
    part,
)
from tests.training.heads.clouds import clouds
from tests.training.test_damaged_images import FILES, decode_or_refuse
from training import image_header
from training.errors import HeadFileError, InputError
from training.heads import fit_head, load_head, save_head
from training.heads.inspection import inspect_head

LOOP = asyncio.Runner()
FETCHING = replace(SMALL, fetch_urls=True)
LOWEST_CHUNK_BYTES = 16


@dataclass(frozen=True)
class Target:
    """One format. `share` is its part of all executions; `tokens` are what mutations put in.

    `seeds` that leave threads are made only in the process that fuzzes. `mutate` gives other bytes from some,
    from what changes bytes at random, and from a number.
    """

    run: Callable[[bytes], None]
    seeds: Sequence[bytes] | Callable[[], Sequence[bytes]]
    share: float
    tokens: Sequence[bytes] = ()
    mutate: Callable[[bytes, Mutate, int], bytes] | None = None
    max_bytes: int = 4096


def repaired(repair: Callable[[bytes], bytes]) -> Callable[[bytes, Mutate, int], bytes]:
    """A mutation whose lengths and checksums are put right."""
    return lambda data, mutate, seed: repair(mutate(data))


async def _nowhere(host: str, port: int) -> Sequence[str]:
    raise OSError("there is no network here")


OFFLINE = RemotePolicy(resolve=_nowhere)


def read(body: bytes, headers: dict[str, str], *, labelled: bool, settings: Settings = SMALL) -> None:
    """A request in pieces, whose size its last byte says: a batch that adds up, or a documented refusal."""
    chunk_bytes = LOWEST_CHUNK_BYTES * (1 + body[-1]) if body else LOWEST_CHUNK_BYTES
    label = "cat" if labelled and headers.get("content-type") != FORM else None
    request = make_request(body, None, headers, chunk_bytes)
    try:
        batch = LOOP.run(read_batch(request, settings, labelled=labelled, label=label, policy=OFFLINE))
    except ApiError as error:
        check_refusal(error)
    else:
        check_batch(batch, labelled=labelled)


def in_form(content_type: str | None) -> Callable[[bytes], None]:
    headers = {} if content_type is None else {"content-type": content_type}

    def run(body: bytes) -> None:
        read(body, headers, labelled=len(body) % 2 == 0)

    return run


def run_headers(data: bytes) -> None:
    """Lines `name: value`, as the protocol hands them on, before a small body."""
    lines = [line.partition(b": ") for line in data.split(b"\n") if line]
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, _, value in lines if name.isascii()}
    wants_lines(make_request(b"", None, headers))
    read(b"a body", headers, labelled=False)


def run_image_headers(data: bytes) -> None:
    image_header.image_format(data)
    image_header.describe_other(data)
    header = image_header.jpeg_header(data)
    for exif in (data, header.exif if header else b""):
        assert 1 <= image_header.exif_orientation(exif) <= 8
    for function in (image_header.webp_size, image_header.gif_size, image_header.jpeg_scans):
        with suppress(InputError):
            function(data)
    assert image_header.tiff_pieces(data) >= 0


def run_head_file(data: bytes) -> None:
    """A file that is taken predicts finite numbers and is written as it was read."""
    try:
        head = load_head(data)
        inspect_head(head)
    except HeadFileError:
        return
    rows = np.zeros((2, head.width), np.float32)
    rows[:, 0] = 1, -1
    found = head.predict(rows)
    assert np.isfinite(found.probabilities).all()
    assert np.isfinite(found.typicality).all()
    assert save_head(load_head(save_head(head))) == save_head(head)


def run_url(data: bytes) -> None:
    """No text is resolved but a host of http or https, and no public address is one of this machine's."""
    text = data.decode("utf-8", "replace")
    read(orjson.dumps({"input": f"http://{text}"}), {"content-type": JSON}, labelled=False, settings=FETCHING)
    read(orjson.dumps({"input": text}), {"content-type": JSON}, labelled=False, settings=FETCHING)
    if is_public(text):
        address = ipaddress.ip_address(text)
        address = getattr(address, "ipv4_mapped", None) or address
        kinds = (address.is_loopback, address.is_link_local, address.is_multicast, address.is_unspecified)
        assert not any(kinds)


def _json(*documents: object) -> list[bytes]:
    return [json.dumps(document).encode() for document in documents]


IMAGE = FILES["PNG"][:300]
ARCHIVES = [
    make_zip({"cat/a.jpg": bytes(300), "dog/b.jpg": b"woof", "__MACOSX/x": b""}),
    make_zip({"../../a": b"x", "\u00e9/b": b"y" * 99}, 0),
    make_zip({"cat/a": b"x", "cat/b.zip": make_zip({"b": b"z"})}),
    make_zip({}),
]
FORMS = [
    form(part("cat", IMAGE), part("dog", b"data:,woof", None)),
    form(part("cat", ARCHIVES[0], "a.zip", b"Content-Type: application/zip\r\n")),
    form(part("a%22b", b"", "", b"Content-Transfer-Encoding: base64\r\n")),
    form(),
]
DOCUMENTS = _json(
    {"examples": [{"input": "AAAA", "label": "cat", "id": "x"}, {"input": "AA==", "labels": ["a", "b"]}]},
    {"input": ["data:;base64,AAAA", {"input": "data:,%41", "id": "1"}, "http://x.example/a"], "top_k": 3},
    {"inputs": "AAAA", "options": {"a": [1, 1.5, None, True, '\\"\u00e9']}},
)
HEADERS = [
    b"content-type: multipart/form-data; boundary=a-boundary\ncontent-length: 6",
    b"content-type: application/json; charset=utf-8\naccept: application/json;q=0.5, application/jsonl;q=1",
    b"content-encoding: gzip, identity\ncontent-length: 99999999999999999999",
]
URLS = [b"x.example/a?b=c#d", b"user@[::1]:80/", b"127.1", b"2002:7f00:1::", b"::ffff:10.0.0.1", b"8.8.8.8"]
HEADS = [save_head(fit_head(*clouds(classes, 4, dim=6), extractor_digest="ab" * 32)) for classes in (2, 3)]

TARGETS = {
    "image": Target(
        decode_or_refuse,
        list(FILES.values()),
        0.12,
        (b"\xff\xda", b"\xff\xe1", b"IDAT"),
        repaired(repair_png),
        16384,
    ),
    "image header": Target(
        run_image_headers, list(FILES.values()), 0.16, (b"Exif\0\0", b"VP8X", b"\x21\xfe")
    ),
    "zip": Target(
        in_form(None), ARCHIVES, 0.14, (b"PK\x03\x04", b"PK\x01\x02", b"PK\x06\x06"), repaired(repair_zip)
    ),
    "multipart": Target(
        in_form(FORM), FORMS, 0.14, (b"--a-boundary\r\n", b"--a-boundary--", b"filename=", b"\r\n\r\n")
    ),
    "json": Target(
        in_form(JSON), DOCUMENTS, 0.12, (b'"input":', b'"examples":', b'"labels":', b"data:;base64,", b"\\u")
    ),
    "headers": Target(run_headers, HEADERS, 0.08, (b"content-type: ", b"; boundary=", b"q=", b"accept: ")),
    "head file": Target(
        run_head_file, HEADS, 0.08, (b'"F32"', b'"data_offsets":', b"1e999"), repaired(repair_head_file)
    ),
    "head archive": Target(
        run_head_archive,
        head_archives,
        0.08,
        (b"ustar", b'"sha256":', b'"id":', b"\\ud800"),
        mutate_head_archive,
        32768,
    ),
    "url": Target(run_url, URLS, 0.08, (b"[::1]", b"@", b"https://", b"64:ff9b::", b"%00")),
}
