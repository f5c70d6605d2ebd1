"""`/v1/heads/{name}/versions`: history, roll forward and back."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from service.engine import Engine
from service.envelope import answer
from service.openapi import errors
from service.routes.common import EngineOf, off_loop
from service.routes.heads import describe_head
from service.schemas import (
    HeadDescription,
    HeadName,
    Limit,
    Position,
    VersionDescription,
    VersionNumber,
    VersionPage,
)
from service.store import HeadRow, VersionRow

router = APIRouter(prefix="/v1/heads/{name}/versions", tags=["versions"])


@router.get("", response_model=VersionPage, responses=errors(404, 405, 422, 500, 503))
async def list_versions(
    engine: EngineOf, name: HeadName, limit: Limit = 100, cursor: Position = None
) -> Response:
    """List the versions of a head, newest first, a page at a time."""
    page = await off_loop(engine.store.versions.list, name, cursor, limit)
    head = await off_loop(engine.store.heads.get, name)
    rows = [summarise_version(row, head) for row in page.items]
    return answer({"versions": rows, "next": page.next_after})


@router.get("/{number}", response_model=VersionDescription, responses=errors(404, 405, 422, 500, 503))
async def get_version(engine: EngineOf, name: HeadName, number: VersionNumber) -> Response:
    """Describe one version: how it was trained and its report."""
    row = await off_loop(engine.store.versions.get, name, number)
    head = await off_loop(engine.store.heads.get, name)
    return answer(
        {
            **summarise_version(row, head),
            "head": name,
            "options": row.options,
            "report": row.report,
            "warnings": list(row.warnings),
        }
    )


@router.post("/{number}/publish", response_model=HeadDescription, responses=errors(404, 405, 422, 500, 503))
async def publish_version(engine: EngineOf, name: HeadName, number: VersionNumber) -> Response:
    """Serve this version from now on: rolls forward and back."""
    return answer(await off_loop(_publish, engine, name, number))


def _publish(engine: Engine, name: str, number: int) -> dict[str, Any]:
    engine.store.versions.publish(name, number)
    return describe_head(engine, name)


def summarise_version(row: VersionRow, head: HeadRow) -> dict[str, Any]:
    return {
        "version": row.number,
        "published": row.number == head.published_version,
        "classes": list(row.classes),
        "examples": row.examples_total,
        "parent_version": row.parent_version,
        "accuracy": row.report.get("accuracy"),
        "created_at": row.created_at.isoformat(),
    }
