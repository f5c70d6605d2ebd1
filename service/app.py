"""The BentoML service: processes, sockets and packaging. The only module that imports bentoml.

The REST application is mounted at the root, and `FrontDoor` sends every request straight to it, so that none
of BentoML's own routes (which unpickle what they are sent) answers in its place and none of its middleware
takes part: together they took longer than the rest of a prediction from the cache. What minds the processes
takes commands from nobody. The environment is set before the imports that read it, and only workers import
what answers requests: half of the time of a start was the parent's import of it.
"""

import contextlib
import gc
import os
from dataclasses import replace
from typing import Any

from service.config import Settings
from service.rundir import devices_folder, make_metrics_folder, metrics_folder

SETTINGS = Settings.from_env()
IS_WORKER = "PROMETHEUS_MULTIPROC_DIR" in os.environ

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
if IS_WORKER:
    gc.disable()  # until all is imported: what a process starts with is no garbage
    # BentoML names one folder for all servers of a user, and the next server to start empties it.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_folder(SETTINGS.home, os.getppid()))

import bentoml
import click
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.utils import circus
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.exposure import require_guarded
from service.devices.settings import without_process
from service.devices.supervisor import start_processes
from service.logs import configure_logging
from service.preparation import prepare
from service.tracing import exporter_named
from training.errors import HeadstartError

# The model store's name of an extractor, as `deploy/bento.py` gives it.
MODEL_PREFIX = "headstart-"


def _with_bundled_extractors(settings: Settings) -> Settings:
    """Extractors that are not in the home folder come from the model store, which travels with a bento."""
    found = []
    for name in settings.extractors:
        # Unlike Path.exists, False for a folder that cannot be read; `prepare` then says why.
        if not os.path.exists(settings.extractor_folder(name)):
            with contextlib.suppress(bentoml.exceptions.NotFound):
                name = bentoml.models.get(f"{MODEL_PREFIX}{name}:latest").path
        found.append(name)
    return replace(settings, extractors=tuple(found))


SETTINGS = _with_bundled_extractors(SETTINGS)
configure_logging(SETTINGS.log_level)


async def _unanswered(scope: Scope, receive: Receive, send: Send) -> None:
    """The application of the parent, which BentoML never calls."""
    raise RuntimeError("requests are answered by workers")


def _rest_application() -> ASGIApp:
    if not IS_WORKER:
        return _unanswered
    from service.worker import rest_application

    return rest_application(SETTINGS, os.getppid())


REST = _rest_application()


def _host() -> str:
    """The address that BentoML is about to listen on: as its command was told, or as it is configured."""
    command = click.get_current_context(silent=True)
    told = command.params.get("host") if command else None
    return str(told or BentoMLContainer.http.host.get())


class FrontDoor:
    """Every HTTP request goes to the REST application; everything else (the lifespan) to BentoML."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.app if scope["type"] == "lifespan" else REST)(scope, receive, send)


@bentoml.service(
    name="headstart",
    workers=SETTINGS.worker_count,
    metrics={"enabled": False},
)
@bentoml.asgi_app(REST, path="/")
class Headstart:
    """Heads on frozen extractors, over REST."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def prepare() -> None:
        """Runs once, in the parent of the worker processes, before they start; ends it if they could not."""
        try:
            exporter_named(os.environ)
            make_metrics_folder(SETTINGS.home, os.getpid())
            metrics, sockets = (
                folder(SETTINGS.home, os.getpid()) for folder in (metrics_folder, devices_folder)
            )
            device = start_processes(SETTINGS, sockets, metrics)
            prepare(SETTINGS if device else without_process(SETTINGS), device)
            require_guarded(SETTINGS, _host())
        except (HeadstartError, OSError) as error:
            raise SystemExit(f"Error: {error}") from error


def _open_front_door(service_class: Any) -> None:
    """Put the door before all that BentoML builds: what it takes as middleware comes behind its own."""
    build = service_class.to_asgi

    def to_asgi(service: Any, is_main: bool = True) -> ASGIApp:
        return FrontDoor(build(service, is_main))

    service_class.to_asgi = to_asgi


def _close_side_door() -> None:
    """Keep the sockets of Circus, which minds the worker processes, within this process.

    BentoML has it listen on two ports of the loopback address, where whoever is on the machine could have it
    start any program as the user of this server. Signals are all that it needs.
    """
    arbiter: Any = circus.Arbiter
    init = arbiter.__init__

    def init_within(self: Any, *args: Any, **options: Any) -> None:
        init(self, *args, **options | {"endpoint": "inproc://control", "pubsub_endpoint": "inproc://events"})

    arbiter.__init__ = init_within


def _let_go_of_the_door() -> None:
    """When the server stops, leave the socket that it listens on to the processes that accept connections.

    Circus would keep it open until the last of them has ended. Meanwhile the system would let clients connect
    and send a request that nobody reads, where a balancer could have gone on to another server.
    """
    arbiter: Any = circus.Arbiter
    stop = arbiter.stop

    def stop_and_let_go(self: Any) -> Any:
        self.sockets.close_all()
        return stop(self)

    arbiter.stop = stop_and_let_go


_open_front_door(type(Headstart))
_close_side_door()
_let_go_of_the_door()
