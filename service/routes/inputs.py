"""`/v1/heads/{name}/examples/{id}/input`: the original bytes of an example."""

from fastapi import APIRouter
from starlette.responses import Response

from service.engine import Engine
from service.routes.common import EngineOf, off_loop
from service.schemas.openapi import errors, input_answer
from service.schemas.parameters import ExampleId, HeadName
from training.image_header import image_format

router = APIRouter(prefix="/v1/heads/{name}/examples/{example_id}/input", tags=["examples"])

# The bytes came from a client: what a browser makes of them is told by their first bytes, never by a name.
MEDIA_TYPES = {
    "JPEG": ("image/jpeg", "jpg"),
    "PNG": ("image/png", "png"),
    "WebP": ("image/webp", "webp"),
    "GIF": ("image/gif", "gif"),
    "BMP": ("image/bmp", "bmp"),
    "TIFF": ("image/tiff", "tif"),
}
OTHER = ("application/octet-stream", "bin")


@router.get(
    "",
    response_class=Response,
    responses={**input_answer(), **errors(404, 405, 422, 500, 503)},
)
async def get_input(engine: EngineOf, name: HeadName, example_id: ExampleId) -> Response:
    """The original bytes of an example, where its head keeps them."""
    data = await off_loop(_read, engine, name, example_id)
    media_type, suffix = MEDIA_TYPES.get(image_format(data) or "", OTHER)
    headers = {
        "Content-Disposition": f'attachment; filename="{example_id}.{suffix}"',
        "Cache-Control": "no-store",
    }
    return Response(data, headers=headers, media_type=media_type)


def _read(engine: Engine, name: str, example_id: str) -> bytes:
    example = engine.store.examples.get(name, example_id)
    return engine.store.inputs.read(engine.store.heads.get(name).id, example.sha256)
