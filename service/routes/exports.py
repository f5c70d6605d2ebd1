"""`/v1/heads/{name}/export`: a head version as a file."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from service.exporter import Format
from service.openapi import errors, file_answer
from service.parameters import HeadName
from service.routes.common import EngineOf, off_loop

router = APIRouter(prefix="/v1/heads/{name}/export", tags=["versions"])

# Neither safetensors nor ONNX has a registered type.
MEDIA_TYPE = "application/octet-stream"

ExportFormat = Annotated[
    Format,
    Query(
        description="`head`: the head file (safetensors), which `POST .../versions` takes. `onnx`: from"
        " embeddings to answers. `fused`: extractor and head, from pixels to answers.",
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
    """Take a head version away as a file: the same version always gives the same bytes."""
    exported = await off_loop(engine.exporter.export, name, form=format, version=version)
    etag = f'"{await off_loop(_sha256, exported.data)}"'
    headers = {"ETag": etag, "Content-Disposition": f'attachment; filename="{exported.filename}"'}
    if if_none_match and _has(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return Response(exported.data, headers=headers, media_type=MEDIA_TYPE)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _has(if_none_match: str, etag: str) -> bool:
    """Whether an If-None-Match names the entity (RFC 9110, 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags
