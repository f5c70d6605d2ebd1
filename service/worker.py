"""The REST application of a worker process, and what its HTTP server is told of it. Knows no BentoML."""

import gc
import os

from fastapi import FastAPI

from service.api import begin_drain, create_app, end_streams
from service.config import Settings
from service.devices.remote import RemoteDevice
from service.devices.settings import without_process
from service.http.accepting import install_acceptor
from service.http.wire import NoUpgrade, install_protocol, install_stop_signal
from service.rundir import devices_folder
from service.tracing import exporter_named, start_tracing

# How many objects more than at the last look lead to the next one: a request in progress has hundreds.
YOUNG_OBJECTS = 50_000


def rest_application(settings: Settings, parent: int) -> FastAPI:
    """What answers the requests to this process; BentoML runs its lifespan.

    Parameters
    ----------
    settings : of the server.
    parent : process id of the server, which has started the processes of the devices, if there are any.
    """
    install_protocol()
    install_acceptor()
    device = RemoteDevice.of(devices_folder(settings.home, parent))
    start_tracing(exporter_named(os.environ))
    app = create_app(settings if device else without_process(settings), device)
    app.wrap(NoUpgrade)
    install_stop_signal(lambda: begin_drain(app), lambda: end_streams(app), drain_s=settings.drain_s)
    collect_rarely()
    return app


def collect_rarely() -> None:
    """Look for cyclic garbage less often, and never among what is there now: what was imported stays.

    By default some 700 objects more than before are enough to look, which took 1.4 % of the processor.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    gc.enable()
