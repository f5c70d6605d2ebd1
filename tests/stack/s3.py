#!/usr/bin/python3
"""S3-compatible storage as `minio server /data` serves it, by moto, in memory; only for the user it is given.

Knows the access key, and no signature.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

PORT = 9000
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def guarded(app: Wsgi, user: str) -> Wsgi:
    """Refuses requests that are not signed in the name of the user."""

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if f"Credential={user}/" in environ.get("HTTP_AUTHORIZATION", ""):
            return app(environ, start)
        start("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"InvalidAccessKeyId"]

    return answer


if sys.argv[1:] != ["server", "/data"] or not os.environ["MINIO_ROOT_PASSWORD"]:
    sys.exit(f"not as MinIO is started: {sys.argv[1:]}")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
storage = guarded(DomainDispatcherApplication(create_backend_app), os.environ["MINIO_ROOT_USER"])
run_simple("0.0.0.0", PORT, storage, threaded=True, request_handler=MotoRequestHandler)
