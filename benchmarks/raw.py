"""The raw limit: processes that decode and embed photographs from memory, one thread each.

Knows no HTTP and no head.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.embedded import embedder
from benchmarks.load import Round
from benchmarks.processes import cores, idle_seconds

Span = tuple[list[float], float, float]  # seconds of each image, of the wall, of the processor


class Raw:
    """Waiting processes, one for each core; `run` lets some of them work for a while."""

    def __init__(self, pipes: Sequence["Connection[float, Span]"]) -> None:
        self._pipes = pipes

    def run(self, seconds: float, processes: int | None = None) -> Round:
        """Decode and embed for some seconds in all processes, or in `processes` of them."""
        pipes = self._pipes[:processes]
        idle_before = idle_seconds()
        for pipe in pipes:
            pipe.send(seconds)
        spans = [pipe.recv() for pipe in pipes]
        idle_s = idle_seconds() - idle_before
        latencies_ms = 1e3 * np.concatenate([latencies for latencies, _, _ in spans])
        return Round(
            images=len(latencies_ms),
            wall_s=float(np.mean([wall_s for _, wall_s, _ in spans])),
            processor_s=sum(processor_s for _, _, processor_s in spans),
            idle_s=idle_s,
            generator_s=0.0,
            p50_ms=float(np.percentile(latencies_ms, 50)),
            p99_ms=float(np.percentile(latencies_ms, 99)),
        )


@contextmanager
def waiting(extractor: Path, paths: Sequence[Path]) -> Iterator[Raw]:
    """Start the processes on an extractor folder and photographs, and end them with the block."""
    context = multiprocessing.get_context("spawn")
    pipes, workers = [], []
    for index in range(cores()):
        ours, theirs = context.Pipe()
        # Each begins elsewhere, so that all meet the same photographs, but not at the same time.
        start = index * len(paths) // cores()
        order = [*paths[start:], *paths[:start]]
        workers.append(context.Process(target=_work, args=(theirs, extractor, order), daemon=True))
        workers[-1].start()
        theirs.close()
        pipes.append(ours)
    try:
        yield Raw(pipes)
    finally:
        for pipe, worker in zip(pipes, workers, strict=True):
            pipe.close()
            worker.join()


def _work(pipe: "Connection[Span, float]", extractor: Path, paths: Sequence[Path]) -> None:
    embed = embedder(extractor)
    photographs = [path.read_bytes() for path in paths]
    position = 0
    while (seconds := _asked(pipe)) is not None:
        latencies: list[float] = []
        start, busy = time.perf_counter(), _processor_s()
        end = start
        while end - start < seconds:
            before = end
            embed(photographs[position % len(photographs)])
            position += 1
            end = time.perf_counter()
            latencies.append(end - before)
        pipe.send((latencies, end - start, _processor_s() - busy))


def _asked(pipe: "Connection[Span, float]") -> float | None:
    try:
        return pipe.recv()
    except EOFError:
        return None


def _processor_s() -> float:
    used = os.times()
    return used.user + used.system
