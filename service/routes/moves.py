"""`/v1/heads/{name}/move`: a head to another extractor."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.http.envelope import answer
from service.moving.mover import Moved
from service.routes.common import EngineOf, off_loop, read_model
from service.routes.heads import train_options
from service.schemas.moves import MovedAnswer
from service.schemas.openapi import STATE_STATUSES, errors, json_body
from service.schemas.parameters import HeadName, MoveRequest

router = APIRouter(prefix="/v1/heads", tags=["heads"])


@router.post(
    "/{name}/move",
    status_code=201,
    response_model=MovedAnswer,
    responses=errors(*STATE_STATUSES),
    openapi_extra=json_body(MoveRequest),
)
async def move_head(request: Request, engine: EngineOf, name: HeadName) -> Response:
    """Embed the examples of a head with another extractor, fit a version, compare it with the present one.

    Needs the inputs that the head keeps, unless their embeddings are cached. If the head switches, its
    examples, its extractor and the published version change at once; until then it serves as before, and
    no request fails. If not, the version is kept unpublished: publishing it later switches too.
    """
    body = await read_model(request, MoveRequest)
    classes = None if body.classes is None else tuple(body.classes)
    moved = await off_loop(
        engine.mover.move,
        name,
        extractor=body.extractor,
        switch=body.switch,
        train=train_options(body, classes),
    )
    return answer(render(moved), 201)


def render(moved: Moved) -> dict[str, Any]:
    name, digest = moved.extractor
    before = moved.before
    return {
        "head": moved.after.name,
        "version": moved.version,
        "switched": moved.switched,
        "task": moved.after.task,
        "classes": list(moved.trained.classes),
        "extractor": {"name": name, "digest": digest},
        "layers": list(moved.trained.report.layers),
        "previous": {
            "version": before.published_version,
            "extractor": {"name": before.extractor_name, "digest": before.extractor_digest},
        },
        "inputs": {
            "total": moved.inputs,
            "embedded": moved.embedded,
            "cached": moved.inputs - moved.embedded,
        },
        "report": moved.trained.report.as_dict(),
        "comparison": moved.comparison.as_dict(),
        "warnings": list(moved.trained.report.warnings),
        "timings_ms": moved.timings_ms,
    }
