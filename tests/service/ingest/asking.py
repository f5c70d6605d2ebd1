"""Requests as a server hands them to the application, and archives and forms to put in them."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import orjson
from starlette.requests import Request
from starlette.types import Message

from service.config import Settings
from service.errors import ApiError
from service.ingest import Batch, read_batch

SMALL = Settings(max_body_bytes=1 << 20, max_input_bytes=1 << 16, max_inputs=50)
BOUNDARY = "a-boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
JSON = "application/json"
CURL_DEFAULT = "application/x-www-form-urlencoded"


def make_request(
    body: bytes,
    content_type: str | None = CURL_DEFAULT,
    headers: Mapping[str, str] | None = None,
    chunk_bytes: int = 1 << 16,
) -> Request:
    """A request whose body arrives in chunks, without a Content-Length unless one is given."""
    chunks = [body[i : i + chunk_bytes] for i in range(0, len(body), chunk_bytes)]

    async def receive() -> Message:
        chunk = chunks.pop(0) if chunks else b""
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    sent = dict(headers or {})
    if content_type is not None:
        sent["content-type"] = content_type
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in sent.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


def read(
    body: bytes,
    content_type: str | None = CURL_DEFAULT,
    *,
    settings: Settings = SMALL,
    labelled: bool = True,
    headers: Mapping[str, str] | None = None,
    chunk_bytes: int = 1 << 16,
    **kwargs: Any,
) -> Batch:
    async def main() -> Batch:
        request = make_request(body, content_type, headers, chunk_bytes)
        return await read_batch(request, settings, labelled=labelled, **kwargs)

    return anyio.run(main)


def read_json(document: Any, **kwargs: Any) -> Batch:
    return read(orjson.dumps(document), JSON, **kwargs)


def part(name: str, data: bytes, filename: str | None = "a.jpg", extra: bytes = b"") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    return f"--{BOUNDARY}\r\n{disposition}\r\n".encode() + extra + b"\r\n" + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def make_zip(
    files: Mapping[str, bytes] | Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items() if isinstance(files, Mapping) else files:
            archive.writestr(name, data)
    return out.getvalue()


def told(batch: Batch) -> list[tuple[int, bytes, str | None, str | None]]:
    return [(item.index, item.data, item.label, item.id) for item in batch.inputs]


def faults(batch: Batch) -> list[tuple[int, int, str]]:
    return [(item.index, item.status, item.code) for item in batch.rejected]


def check_refusal(error: ApiError) -> None:
    """A documented refusal, short enough for a log, whatever the client wrote."""
    assert 400 <= error.status < 500
    assert len(error.message) < 1000


def check_batch(batch: Batch, *, labelled: bool) -> None:
    """Every item is there once, within the limits, and labelled if it must be."""
    indices = sorted([item.index for item in batch.inputs] + [item.index for item in batch.rejected])
    assert indices == list(range(batch.total))
    assert batch.total <= SMALL.max_inputs
    assert all(0 < len(item.data) <= SMALL.max_input_bytes for item in batch.inputs)
    assert all(bool(item.labels) == labelled for item in batch.inputs)
