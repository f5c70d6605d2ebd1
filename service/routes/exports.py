"""`/v1/heads/{name}/export`: a head version as a file."""

import hashlib
from collections.abc import Iterator
from typing import IO, Annotated, Literal

from fastapi import APIRouter, Header, Query
from starlette.responses import Response, StreamingResponse

from service.engine import Engine
from service.exchange.exporter import Format
from service.exchange.head_archive.members import PIECE_BYTES
from service.routes.common import EngineOf, off_loop
from service.schemas.openapi import errors, file_answer
from service.schemas.parameters import HeadName

router = APIRouter(prefix="/v1/heads/{name}/export", tags=["versions"])

# Neither safetensors nor ONNX has a registered type.
MEDIA_TYPE = "application/octet-stream"

ExportFormat = Annotated[
    Format | Literal["archive"],
    Query(
        description="`head`: the head file (safetensors), which `POST .../versions` takes. `onnx`: from"
        " embeddings to answers. `fused`: extractor and head, from pixels to answers. `archive`: the head"
        " file with all examples of the head, which `POST .../import` takes.",
        examples=["fused"],
    ),
]
Version = Annotated[
    int | None,
    Query(ge=1, le=2**31 - 1, description="Number of a version; left out: the published one.", examples=[1]),
]


@router.get(
    "",
    response_class=Response,
    responses={
        **file_answer("The version as a file."),
        **errors(404, 405, 409, 422, 500, 503),
    },
)
async def export_head(
    engine: EngineOf,
    name: HeadName,
    format: ExportFormat = "head",
    version: Version = None,
    if_none_match: Annotated[str | None, Header(max_length=4096)] = None,
) -> Response:
    """Take a head version away as a file: the same version always gives the same bytes.

    An archive also has the examples that the head has now.
    """
    if format == "archive":
        return await _archive(engine, name, version, if_none_match)
    exported = await off_loop(engine.exporter.export, name, form=format, version=version)
    etag = f'"{await off_loop(_sha256, exported.data)}"'
    if if_none_match and _has(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    headers = _headers(etag, exported.filename)
    return Response(exported.data, headers=headers, media_type=MEDIA_TYPE)


async def _archive(engine: Engine, name: str, version: int | None, if_none_match: str | None) -> Response:
    archive = await off_loop(engine.archives.write, name, version)
    etag = f'"{archive.sha256}"'
    if if_none_match and _has(if_none_match, etag):
        archive.file.close()
        return Response(status_code=304, headers={"ETag": etag})
    headers = {**_headers(etag, archive.filename), "Content-Length": str(archive.size_bytes)}
    return StreamingResponse(_pieces(archive.file), headers=headers, media_type=MEDIA_TYPE)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _headers(etag: str, filename: str) -> dict[str, str]:
    return {"ETag": etag, "Content-Disposition": f'attachment; filename="{filename}"'}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _has(if_none_match: str, etag: str) -> bool:
    """Whether an If-None-Match names the entity (RFC 9110, 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags
