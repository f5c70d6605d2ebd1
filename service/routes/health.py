"""`/livez`, `/healthz`, `/readyz` and `/metrics`: for the machines that watch the service."""

import logging
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from service import metrics
from service.access.door import admit_to_metrics
from service.devices.remote import RemoteDevice
from service.engine import Engine
from service.errors import ApiError
from service.http.envelope import answer
from service.routes.common import ProcessOf, off_loop
from service.routes.extractors import describe_lasting
from service.schemas.health import HealthAnswer, ReadyAnswer
from service.schemas.openapi import errors
from service.store import StoreError

logger = logging.getLogger("headstart.health")

router = APIRouter(tags=["health"])


@router.get("/livez", response_model=HealthAnswer, responses=errors(405))
@router.get("/healthz", response_model=HealthAnswer, responses=errors(405))
async def alive() -> Response:
    """The process answers."""
    return answer({"status": "ok"})


@router.get("/readyz", response_model=ReadyAnswer, responses=errors(405, 500, 503))
async def ready(request: Request, engine: ProcessOf) -> Response:
    """The extractors passed their golden check, devices and database answer, and it is not to stop."""
    if request.app.state.is_draining:
        raise ApiError(503, "not_ready", "the server is stopping", headers={"Retry-After": "1"})
    await off_loop(engine.store.check)
    extractors = describe_lasting(engine.embedders)
    return answer({"status": "ready", "extractors": extractors, "devices": await off_loop(_devices, engine)})


def _devices(engine: Engine) -> list[dict[str, Any]]:
    """What the processes that own a device say of themselves; nothing if there are none."""
    return engine.device.states() if isinstance(engine.device, RemoteDevice) else []


@router.get(
    "/metrics",
    dependencies=[Depends(admit_to_metrics)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **errors(405, 503)},
)
async def prometheus(engine: ProcessOf) -> Response:
    """Prometheus metrics of all processes of this server, and of the heads in its database."""
    return Response(await off_loop(_metrics, engine), media_type=metrics.CONTENT_TYPE)


def _metrics(engine: Engine) -> bytes:
    """Without the heads when the database does not answer: then of all times the rest is wanted."""
    try:
        found = engine.store.overview.heads()
    except StoreError as error:
        logger.warning("/metrics without the heads: %s", error)
        return metrics.render()
    return metrics.render(metrics.HeadCollector(found.count, found.accuracies))
