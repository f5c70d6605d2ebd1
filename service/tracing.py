"""OpenTelemetry spans of requests and of their stages, where the standard OTEL_* variables ask for them.

Off otherwise, at no cost but a comparison. Knows OpenTelemetry, which is imported only when it is on.
Knows no route.
"""

import os
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from training.errors import HeadstartError

ADVICE = "install the extra `otel` (requirements/otel.txt), or unset OTEL_TRACES_EXPORTER"
NS_PER_S = 1_000_000_000
FIRST_SERVER_ERROR = 500

_tracer: Any = None


class TracingError(HeadstartError):
    """Spans were asked for that cannot be exported."""

    code = "tracing_unavailable"


def exporter_named(environ: Mapping[str, str]) -> Any:
    """The exporter that the environment asks for; None if it asks for none.

    OTEL_TRACES_EXPORTER is `otlp`, `console` or `none`. Without it, an OTLP endpoint asks for `otlp`.

    Raises
    ------
    TracingError
        It is not known, or not installed.
    """
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    default = "otlp" if any(environ.get(name) for name in endpoints) else "none"
    name = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or default
    if name == "none" or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    try:
        if name == "otlp":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            return OTLPSpanExporter()
        if name == "console":
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter

            return ConsoleSpanExporter()
    except ImportError as error:
        raise TracingError(f"OTEL_TRACES_EXPORTER={name}: no module {error.name!r}; {ADVICE}") from error
    raise TracingError(f"OTEL_TRACES_EXPORTER={name!r}: expected otlp, console or none")


def start_tracing(exporter: Any, *, at_once: bool = False) -> None:
    """Export the spans of this process; None ends that.

    Parameters
    ----------
    at_once : export each span when it ends, rather than many together in the background.
    """
    global _tracer
    if exporter is None:
        _tracer = None
        return
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

    named = "OTEL_SERVICE_NAME" in os.environ or SERVICE_NAME in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    provider = TracerProvider(resource=Resource.create({} if named else {SERVICE_NAME: "headstart"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter) if at_once else BatchSpanProcessor(exporter))
    _tracer = provider.get_tracer("headstart")


def is_tracing() -> bool:
    return _tracer is not None


class Traced:
    """ASGI middleware: a span for each request, below the one that its `traceparent` names.

    Only where spans are exported.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, Status, StatusCode

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, status = scope["method"], 500
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with _tracer.start_as_current_span(method, context=extract(headers), kind=SpanKind.SERVER) as span:
            try:
                await self.app(scope, receive, send_and_note)
            finally:
                route = getattr(scope.get("route"), "path", "unmatched")
                span.update_name(f"{method} {route}")
                span.set_attributes(
                    {
                        "http.request.method": method,
                        "http.route": route,
                        "http.response.status_code": status,
                        "headstart.request_id": scope["state"]["request_id"],
                    }
                )
                if status >= FIRST_SERVER_ERROR:
                    span.set_status(Status(StatusCode.ERROR))


def record_stage(name: str, seconds: float) -> None:
    """A span that has just ended, below the current one; nothing outside of a request."""
    if _tracer is None:
        return
    from opentelemetry.trace import get_current_span

    if get_current_span().is_recording():
        end_ns = time.time_ns()
        span = _tracer.start_span(name, start_time=end_ns - int(seconds * NS_PER_S))
        span.end(end_ns)
