"""`/v1/audit`: who changed what."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from service.http.envelope import answer
from service.routes.common import EngineOf, off_loop
from service.schemas.audit import AuditPage
from service.schemas.openapi import errors
from service.schemas.parameters import Limit, Position
from service.store import AuditEvent

router = APIRouter(prefix="/v1/audit", tags=["audit"])


@router.get("", response_model=AuditPage, responses=errors(405, 422, 500, 503))
async def list_audit(engine: EngineOf, limit: Limit = 100, cursor: Position = None) -> Response:
    """List what was changed in the tenant of the key, and what was asked for and refused, newest first."""
    page = await off_loop(engine.store.audit.list, cursor, limit)
    return answer({"events": [describe_event(event) for event in page.items], "next": page.next_after})


def describe_event(event: AuditEvent) -> dict[str, Any]:
    return {
        "id": event.seq,
        "at": event.at.isoformat(),
        "tenant": event.tenant,
        "actor": event.actor,
        "request_id": event.request_id,
        "action": event.action,
        "target": event.target,
        "outcome": event.outcome,
        "detail": event.detail,
    }
