"""Spans: of a request, of its stages in whatever thread, and none where nobody asked for them."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.api import create_app
from service.config import Settings
from service.engine import Engine
from service.http.envelope import Envelope
from service.preparation import prepare
from service.tracing import Traced, TracingError, exporter_named, is_tracing, start_tracing
from service.waiting.patience import ENDLESS
from tests.service.images import png

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    start_tracing(exporter, at_once=True)
    yield exporter
    start_tracing(None)


@pytest.fixture
def client(exported: InMemorySpanExporter, settings: Settings) -> Iterator[TestClient]:
    prepare(settings)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def names(spans: tuple[ReadableSpan, ...]) -> list[str]:
    return sorted(span.name for span in spans)


def test_a_request_is_a_span_with_its_stages_below(
    client: TestClient, exported: InMemorySpanExporter
) -> None:
    exported.clear()
    files = [("input", (f"{number}.png", png(number), "image/png")) for number in range(2)]
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "mine"}
    assert client.post("/v1/embeddings", files=files, headers=headers).status_code == 200
    spans = exported.get_finished_spans()
    stages = [
        *["decode", "embed", "queue"] * 2,
        "store",
        "wait",
    ]  # two inputs, shared out between two threads
    assert names(spans) == sorted(["POST /v1/embeddings", *stages])
    (request,) = [span for span in spans if span.name.startswith("POST")]
    assert request.context.trace_id == int(TRACE, 16)
    assert request.parent is not None
    assert request.parent.span_id == int(PARENT, 16)
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/embeddings",
        "http.response.status_code": 200,
        "headstart.request_id": "mine",
    }
    for span in spans:
        assert span.context.trace_id == request.context.trace_id
        assert span is request or span.parent == request.context
        assert request.start_time <= span.start_time <= span.end_time <= request.end_time


def test_stages_belong_to_their_own_request_where_several_share_a_turn(
    client: TestClient, exported: InMemorySpanExporter
) -> None:
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    exported.clear()
    senders = [
        threading.Thread(target=client.post, args=("/v1/embeddings",), kwargs={"content": png(700 + number)})
        for number in range(3)
    ]
    with ExitStack() as held:
        for _ in range(engine.turns.at_once):
            held.enter_context(engine.turns.turn(ENDLESS))
        for sender in senders:
            sender.start()
        deadline = time.monotonic() + 30
        while engine.admission.answering < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
    for sender in senders:
        sender.join()
    spans = exported.get_finished_spans()
    requests = {span.context.span_id for span in spans if span.name.startswith("POST")}
    assert len(requests) == 3
    for stage in ("decode", "embed"):
        assert {span.parent and span.parent.span_id for span in spans if span.name == stage} == requests


def test_a_refused_request_has_its_status(client: TestClient, exported: InMemorySpanExporter) -> None:
    exported.clear()
    client.post("/v1/heads/nobody/predict", content=png(1))
    (span,) = [span for span in exported.get_finished_spans() if span.name.startswith("POST")]
    assert span.name == "POST /v1/heads/{name}/predict"
    assert (span.attributes or {})["http.response.status_code"] == 404
    assert span.status.is_unset


def test_nothing_is_traced_unless_it_is_asked_for(settings: Settings) -> None:
    start_tracing(exporter_named({}))
    assert not is_tracing()
    layers = [create_app(settings)._front]
    while (inner := getattr(layers[-1], "app", None)) is not None:
        layers.append(inner)
    assert any(isinstance(layer, Envelope) for layer in layers)
    assert not any(isinstance(layer, Traced) for layer in layers)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"},
        {"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_the_variables_that_switch_it_off(environ: dict[str, str]) -> None:
    assert exporter_named(environ) is None


def test_the_variables_that_switch_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(exporter_named({"OTEL_TRACES_EXPORTER": "console"}), ConsoleSpanExporter)
    with pytest.raises(TracingError, match="expected otlp, console or none"):
        exporter_named({"OTEL_TRACES_EXPORTER": "jaeger"})
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    for environ in ({"OTEL_TRACES_EXPORTER": "otlp"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}):
        with pytest.raises(TracingError, match=r"requirements/otel\.txt"):
            exporter_named(environ)
