"""The REST application: routes, errors, OpenAPI, and an engine for as long as it lives. Knows no BentoML."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute

from service import metrics
from service.access.documented import document_access
from service.access.door import admit, note_refusal
from service.access.scopes import require_declared
from service.config import Settings
from service.devices.sessions import Device
from service.engine import Engine
from service.http.envelope import Envelope, install_error_handlers, refusal
from service.http.lane import Lane, Stop
from service.http.once import OnceOnly, carry_out_once, install_repeats
from service.ingest import LingeringClose
from service.routes import BUSY, RESOURCES, WATCHED
from service.routes.common import known_parameters
from service.tracing import Traced, is_tracing
from training import __version__

# What every route of a resource depends on.
SHARED = (admit, known_parameters)

DESCRIPTION = (
    "Teach a frozen, pretrained network new classes: post a few labelled images, get a calibrated, versioned"
    " classifier back, then call it for predictions."
)


def create_app(settings: Settings, device: Device | None = None) -> FastAPI:
    """Build the ASGI application; its lifespan starts and closes the engine.

    Parameters
    ----------
    settings : the settings of this process.
    device : of the server, if processes of their own own it; None: this process has what the settings say.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.engine = await to_thread.run_sync(Engine.start, settings, device)
        await to_thread.run_sync(metrics.reserve_disk)
        try:
            yield
        finally:
            engine, app.state.engine = app.state.engine, None
            await to_thread.run_sync(engine.close)

    app = FastAPI(
        title="Headstart",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.engine = None
    app.state.is_draining = False
    app.state.settings = settings
    for router in RESOURCES:
        app.include_router(
            router, dependencies=[Depends(dependency) for dependency in (*SHARED, carry_out_once)]
        )
    for router in WATCHED:
        app.include_router(router)
    require_declared(route for router in (*RESOURCES, *WATCHED) for route in router.routes)
    document_access(app)
    install_repeats(app)
    install_error_handlers(app, note_refusal)
    app.add_middleware(Lane, stops=_stops(), refusal=refusal)
    app.add_middleware(OnceOnly)
    if is_tracing():
        app.add_middleware(Traced)
    app.add_middleware(Envelope)
    app.add_middleware(LingeringClose)
    return app


def _stops() -> list[Stop]:
    routes = [route for router in RESOURCES for route in router.routes if isinstance(route, APIRoute)]
    return [Stop(route, SHARED) for endpoint in BUSY for route in routes if route.endpoint is endpoint]


def begin_drain(app: FastAPI) -> None:
    """Let `/readyz` say that the server is to stop; everything else is answered as before."""
    app.state.is_draining = True


def end_streams(app: FastAPI) -> None:
    """End the answers that go on for as long as there is news: the server is to stop."""
    engine: Engine | None = app.state.engine
    if engine is not None:
        engine.watchers.end()
