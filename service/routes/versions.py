"""`/v1/heads/{name}/versions`: history, roll forward and back, versions from elsewhere."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.engine import Engine
from service.errors import ApiError
from service.exchange.importer import is_imported
from service.http.envelope import answer
from service.ingest import read_body
from service.learning.layers import layers_in
from service.routes.common import EngineOf, off_loop
from service.routes.heads import describe_head
from service.schemas.heads import HeadDescription
from service.schemas.openapi import STATE_STATUSES, errors, head_file_body
from service.schemas.parameters import HeadName, Limit, Position, VersionNumber
from service.schemas.versions import VersionDescription, VersionPage
from service.store import EmbeddingNotFoundError, HeadRow, VersionRow

router = APIRouter(prefix="/v1/heads/{name}/versions", tags=["versions"])


@router.get("", response_model=VersionPage, responses=errors(404, 405, 422, 500, 503))
async def list_versions(
    engine: EngineOf, name: HeadName, limit: Limit = 100, cursor: Position = None
) -> Response:
    """List the versions of a head, newest first, a page at a time."""
    # First the head: the version that it says is published is then among those that are read.
    head = await off_loop(engine.store.heads.get, name)
    page = await off_loop(engine.store.versions.list, name, cursor, limit)
    rows = [summarise_version(row, head) for row in page.items]
    return answer({"versions": rows, "next": page.next_after})


@router.post(
    "",
    status_code=201,
    response_model=VersionDescription,
    responses=errors(*STATE_STATUSES),
    openapi_extra=head_file_body(),
)
async def import_version(
    request: Request,
    engine: EngineOf,
    name: HeadName,
    publish: Annotated[bool, Query(description="Serve the version at once.")] = True,
) -> Response:
    """Make a head file, as `export` gives it, the next version of a head.

    A head that is not there is made, without examples. The extractor that the file was fitted on must be
    loaded, and be the head's.
    """
    data = await read_body(request, engine.settings.max_body_bytes)
    number = await off_loop(engine.importer.add_version, name, data, publish=publish)
    return answer(await off_loop(describe_version, engine, name, number), 201)


@router.get("/{number}", response_model=VersionDescription, responses=errors(404, 405, 422, 500, 503))
async def get_version(engine: EngineOf, name: HeadName, number: VersionNumber) -> Response:
    """Describe one version: how it was trained and its report."""
    return answer(await off_loop(describe_version, engine, name, number))


@router.post(
    "/{number}/publish", response_model=HeadDescription, responses=errors(404, 405, 409, 422, 500, 503)
)
async def publish_version(engine: EngineOf, name: HeadName, number: VersionNumber) -> Response:
    """Serve this version from now on: rolls forward and back.

    A version of another extractor takes the head to that extractor, at once and as a whole. That needs the
    embedding of every example by it; if some are not there any more, it is a 409 `embeddings_missing`.
    """
    return answer(await off_loop(_publish, engine, name, number))


def describe_version(engine: Engine, name: str, number: int) -> dict[str, Any]:
    row = engine.store.versions.get(name, number)
    return {
        **summarise_version(row, engine.store.heads.get(name)),
        "head": name,
        "options": row.options,
        "report": row.report,
        "warnings": list(row.warnings),
    }


def _publish(engine: Engine, name: str, number: int) -> dict[str, Any]:
    try:
        engine.store.versions.publish(name, number)
    except EmbeddingNotFoundError as error:
        extractor = engine.store.versions.get(name, number).extractor_name
        message = (
            f"version {number} is of the extractor {extractor!r}, by which {len(error.keys)} examples have no"
            f" embedding; POST /v1/heads/{name}/move with that extractor makes them, and a version from the"
            " examples as they are"
        )
        raise ApiError(409, "embeddings_missing", message) from error
    return describe_head(engine, name)


def summarise_version(row: VersionRow, head: HeadRow) -> dict[str, Any]:
    return {
        "version": row.number,
        "published": row.number == head.published_version,
        "classes": list(row.classes),
        "examples": row.examples_total,
        "extractor": {"name": row.extractor_name, "digest": row.extractor_digest},
        "parent_version": row.parent_version,
        "accuracy": row.report.get("accuracy"),
        "layers": list(layers_in(row)),
        "imported": is_imported(row),
        "created_at": row.created_at.isoformat(),
    }
