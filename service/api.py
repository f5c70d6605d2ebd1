"""The REST application: routes, errors, OpenAPI, and an engine for as long as it lives. Knows no BentoML."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

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


class Application(FastAPI):
    """FastAPI behind middleware that answers for every error itself and knows a shorter way to some routes.

    What FastAPI puts before its own middleware has nothing to do then, and took as long as a look into the
    database.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._front: ASGIApp = super().__call__

    def wrap(self, middleware: Callable[[ASGIApp], ASGIApp]) -> None:
        """Put middleware before what answers requests now."""
        self._front = middleware(self._front)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
        else:
            scope["app"] = self
            await self._front(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        outermost: Any = super().build_middleware_stack()
        inner: ASGIApp = outermost.app  # without what would answer to exceptions that nobody foresaw
        return inner


def create_app(settings: Settings, device: Device | None = None) -> Application:
    """Build the ASGI application; its lifespan starts and closes the engine.

    Parameters
    ----------
    settings : the settings of this process.
    device : of the server, if processes of their own own it; None: this process has what the settings say.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.engine = await to_thread.run_sync(Engine.start, settings, device)
        metrics.begin_at_zero()
        await to_thread.run_sync(metrics.reserve_disk)
        try:
            yield
        finally:
            engine, app.state.engine = app.state.engine, None
            await to_thread.run_sync(engine.close)

    app = Application(
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
    app.wrap(lambda inner: Lane(inner, _stops(), refusal))
    app.wrap(OnceOnly)
    if is_tracing():
        app.wrap(Traced)
    app.wrap(Envelope)
    app.wrap(LingeringClose)
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
