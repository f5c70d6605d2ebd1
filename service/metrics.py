"""Prometheus metrics: what is counted and how all processes of a server answer as one.

Knows no route and no store. No metric carries a name that a client chose: /metrics may be open to all.
"""

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from service.tracing import record_stage

CONTENT_TYPE = CONTENT_TYPE_LATEST
SOURCES = ("computed", "memory", "store")  # of embeddings
QUANTILES = ("0", "0.1", "0.5")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

REQUESTS = Counter("headstart_requests", "Answered requests.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "headstart_request_seconds", "Time to answer a request, in seconds.", ["method", "route"], buckets=SECONDS
)
EMBEDDINGS = Counter(
    "headstart_embeddings",
    "Embeddings used, by where they came from: computed by the extractor, or cached in memory or store.",
    ["source"],
)
STAGE_SECONDS = Histogram(
    "headstart_stage_seconds", "Time spent in one stage of a request, in seconds.", ["stage"], buckets=SECONDS
)
BATCH_IMAGES = Histogram(
    "headstart_batch_images",
    "Images of one batch, in a process that owns a device.",
    buckets=(1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128, 256),
)
BATCH_SECONDS = Histogram(
    "headstart_batch_seconds", "Time that the device took for one batch, in seconds.", buckets=SECONDS
)
QUEUE_SECONDS = Histogram(
    "headstart_device_queue_seconds", "Time that images waited for a device, in seconds.", buckets=SECONDS
)
EXTRACTORS = Gauge(
    "headstart_extractor_loaded",
    "1 for each loaded extractor, with the provider that it runs on.",
    ["extractor", "digest", "provider"],
    multiprocess_mode="livemax",
)
IN_PROGRESS = Gauge(
    "headstart_requests_in_progress",
    "Requests with inputs that are in progress now.",
    multiprocess_mode="livesum",
)
PREDICTIONS = Counter("headstart_predictions", "Predicted inputs, by whether they were unknown.", ["unknown"])
VERSIONS = Counter("headstart_versions_trained", "Head versions trained.")


# Looked up once for each combination of labels rather than at each observation.
_stage = lru_cache(STAGE_SECONDS.labels)
_source = lru_cache(EMBEDDINGS.labels)
_requests = lru_cache(REQUESTS.labels)
_request_seconds = lru_cache(REQUEST_SECONDS.labels)
_predictions = lru_cache(PREDICTIONS.labels)


def observe_stage(name: str, seconds: float) -> None:
    """Observe `headstart_stage_seconds{stage=name}`; also a span of the request, where spans are exported."""
    _stage(name).observe(seconds)
    record_stage(name, seconds)


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    """Count and observe an answered request; `route` is one of the paths that there are."""
    _requests(method, route, status).inc()
    _request_seconds(method, route).observe(seconds)


def count_embeddings(source: str, count: int) -> None:
    """Count `headstart_embeddings{source=source}`."""
    if count:
        _source(source).inc(count)


def count_predictions(inputs: int, unknown: int) -> None:
    """Count `headstart_predictions` of some inputs, so many of them unknown."""
    for is_unknown, count in (("true", unknown), ("false", inputs - unknown)):
        if count:
            _predictions(is_unknown).inc(count)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Observe how long a block takes under `headstart_stage_seconds{stage=name}`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        observe_stage(name, time.perf_counter() - start)


class HeadCollector(Collector):
    """What the database says of the heads of all servers on it, as gauges.

    Parameters
    ----------
    count : heads.
    accuracies : held-out accuracy of the published versions, ascending.
    """

    def __init__(self, count: int, accuracies: Sequence[float]) -> None:
        self.count = count
        self.accuracies = accuracies

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("headstart_heads", "Heads in the database.", value=self.count)
        accuracy = GaugeMetricFamily(
            "headstart_published_accuracy",
            "Held-out accuracy of the published versions: the least, the tenth percentile, the median.",
            labels=["quantile"],
        )
        for quantile in QUANTILES if self.accuracies else ():
            rank = max(math.ceil(float(quantile) * len(self.accuracies)) - 1, 0)
            accuracy.add_metric([quantile], self.accuracies[rank])
        yield accuracy


def render(heads: Collector | None = None) -> bytes:
    """All metrics in the text exposition format, summed over the processes of this server.

    heads : what else there is to collect; None leaves it out.
    """
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(REGISTRY)
    if heads is not None:
        registry.register(heads)
    return generate_latest(registry)


def begin_at_zero() -> None:
    """Let counts of what has not happened yet be 0 rather than missing."""
    for source in SOURCES:
        _source(source)
    for is_unknown in ("true", "false"):
        _predictions(is_unknown)


def reserve_disk() -> None:
    """Take the room on the disk that this process's files of metrics say they have.

    They are written through memory: where the disk is full by then, the system ends the process.
    """
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return
    REQUEST_SECONDS.labels("GET", "/readyz")
    REQUESTS.labels("GET", "/readyz", 200)
    for path in Path(folder).glob(f"*_{os.getpid()}.db"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
