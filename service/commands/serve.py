"""`headstart serve`: the server in this process's place. Knows how to start it, not what it does."""

import os
import socket
import sys

import click

from service.commands.terminal import read_settings

# There is a process for each core already. Threads of numpy on top of that wait for each other far longer
# than they compute: where two processes share two cores, a factorisation took up to sixty times as long.
ONE_BLAS_THREAD = ("OPENBLAS_NUM_THREADS", "1")


@click.command("serve")
def command() -> None:
    """Serve the REST API. Settings come from HEADSTART_* variables (docs/guide/settings.md)."""
    settings = read_settings()
    _require_free(settings.host, settings.port)
    address = ["--host", settings.host, "--port", str(settings.port)]
    # BentoML would wait for a day for a client that has stopped sending.
    patience = ["--timeout-graceful-shutdown", str(settings.shutdown_timeout_s)]
    arguments = [sys.executable, "-m", "bentoml", "serve", "service.app:Headstart", *address, *patience]
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    os.environ.setdefault(*ONE_BLAS_THREAD)
    sys.stdout.flush()
    # The server takes this process's place, so that its process id is the one a supervisor knows.
    os.execv(arguments[0], arguments)  # noqa: S606 - a fixed command, no shell


def _require_free(host: str, port: int) -> None:
    """The server would find out too, and end with a traceback."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            message = (
                f"cannot listen on {host} port {port}: {error.strerror}. Set HEADSTART_HOST or HEADSTART_PORT"
            )
            raise click.ClickException(message) from error
