"""`/v1/jobs`: list, describe, follow and cancel the long pieces of work of heads."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query
from starlette.responses import Response, StreamingResponse

from service.engine import Engine
from service.http.envelope import answer
from service.routes.common import EngineOf, off_loop
from service.schemas.jobs import JobDescription, JobPage
from service.schemas.openapi import errors
from service.schemas.parameters import JobId, Limit, Position
from service.store import QUEUED, JobEvent, JobRow, JobState

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

# A worker tells of itself at least every ten seconds while it waits.
WORKER_IS_MISSED_AFTER = timedelta(seconds=60)
RETRY_MS = 2000
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

OfHead = Annotated[
    str | None,
    Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128, description="Only jobs of this head."),
]
InState = Annotated[JobState | None, Query(description="Only jobs in this state.")]
LastEventId = Annotated[
    int, Header(alias="Last-Event-ID", ge=0, le=2**63 - 1, description="Events after this one only.")
]


@router.get("", response_model=JobPage, responses=errors(404, 405, 422, 500, 503))
async def list_jobs(
    engine: EngineOf, limit: Limit = 100, cursor: Position = None, head: OfHead = None, state: InState = None
) -> Response:
    """List jobs, newest first, a page at a time."""
    page = await off_loop(engine.store.jobs.list, cursor, limit, head=head, state=state)
    return answer({"jobs": [summarise_job(row) for row in page.items], "next": page.next_after})


@router.get("/{job_id}", response_model=JobDescription, responses=errors(404, 405, 422, 500, 503))
async def get_job(engine: EngineOf, job_id: JobId) -> Response:
    """Describe a job: how far it is and, once it has ended, its result or error."""
    row = await off_loop(engine.store.jobs.get, job_id)
    return answer(await off_loop(describe_job, engine, row))


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events `state`, `progress` and `log`, their data JSON.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "The job has ended, and there is nothing after `Last-Event-ID`."},
        **errors(404, 405, 422, 500, 503),
    },
)
async def follow_job(engine: EngineOf, job_id: JobId, last_event_id: LastEventId = 0) -> Response:
    """Follow a job: what happened so far, then what happens, until it has ended.

    A client that lost the connection goes on where it was with `Last-Event-ID`, as browsers do by themselves.
    """
    row = await off_loop(engine.store.jobs.get, job_id)
    if row.is_finished and row.last_event <= last_event_id:
        return Response(status_code=204)
    stream = _stream(engine, job_id, last_event_id)
    return StreamingResponse(stream, headers=STREAM_HEADERS, media_type="text/event-stream")


@router.post("/{job_id}/cancel", response_model=JobDescription, responses=errors(404, 405, 422, 500, 503))
async def cancel_job(engine: EngineOf, job_id: JobId) -> Response:
    """Cancel a job: a queued one at once, a running one as soon as its worker notices.

    A job that has ended stays as it is.
    """
    row = await off_loop(engine.store.jobs.cancel, job_id)
    return answer(await off_loop(describe_job, engine, row))


async def _stream(engine: Engine, job_id: str, after: int) -> AsyncGenerator[bytes, None]:
    yield b"retry: %d\n\n" % RETRY_MS
    async with aclosing(engine.watchers.follow(job_id, after)) as events:
        async for event in events:
            yield b": nothing new\n\n" if event is None else _frame(event)


def _frame(event: JobEvent) -> bytes:
    """An event as the HTML standard writes it; its JSON has no line end."""
    data = orjson.dumps({"at": event.at.isoformat(), **event.data})
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.kind.encode(), data)


def summarise_job(row: JobRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "head": row.head,
        "state": row.state,
        "progress": {
            "fraction": row.fraction,
            "stage": row.stage,
            "epoch": row.epoch,
            "epochs": row.epochs,
        },
        "attempts": row.attempts,
        "worker": row.worker,
        "cancel_requested": row.cancel_requested,
        "error": row.error,
        "created_at": row.created_at.isoformat(),
        "started_at": row.started_at and row.started_at.isoformat(),
        "finished_at": row.finished_at and row.finished_at.isoformat(),
    }


def describe_job(engine: Engine, row: JobRow) -> dict[str, Any]:
    return {
        **summarise_job(row),
        "options": row.options,
        "result": row.result,
        "warnings": _warnings(engine, row),
    }


def _warnings(engine: Engine, row: JobRow) -> list[dict[str, str]]:
    if row.state != QUEUED:
        return []
    seen = engine.store.jobs.worker_seen_at()
    if seen is not None and datetime.now(UTC) - seen < WORKER_IS_MISSED_AFTER:
        return []
    message = "no worker has been seen lately: start one with `headstart worker`"
    return [{"code": "no_worker", "message": message}]
