"""The service under more than it can carry, and with a large batch in it.

Overload: so many connections ask that several times as many photographs come as can be embedded. What is
accepted must be answered within its deadline, the rest refused at once with 429; nothing may fail, and memory
must not grow. Batch: 5,000 photographs in one zip, beside a client that asks for one after another. Prints
what it found and the bars, and last one line of JSON.

    python -m benchmarks.pressure [--seconds 60] [--batch 5000]
"""

import argparse
import io
import json
import tempfile
import threading
import time
import uuid
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from benchmarks import load, raw
from benchmarks.embedded import add_arguments
from benchmarks.many_heads import Asker, Question
from benchmarks.processes import idle_seconds, largest_resident_bytes, processor_seconds, settle
from benchmarks.server import EXTRACTOR, Server, running
from benchmarks.serving import FP32, HEAD, Plan, teach

TIMES = 4.0  # as many requests as can be answered
AIMED_AT = 1.5  # times that: a connection whose request was let in does not ask meanwhile
CONNECTIONS = 1024
DEADLINE_S = 5.0
MEMORY_BAR = 1.1  # after the overload, over before it
PROBE_S, PROBE_PAUSE_S = 10.0, 0.01
BATCH_BAR, PROBE_BAR = 0.9, 5.0
ROUND_S = 5
NEW_PHOTOGRAPH = Question("one head, new", f"/v1/heads/{HEAD}/predict", is_new=True)


class Prober:
    """A client that asks for one new photograph after another on one connection."""

    def __init__(self, server: Server, photographs: Sequence[bytes]) -> None:
        self.server, self.photographs = server, photographs
        self.latencies_s: list[float] = []

    def ask(self) -> float:
        """Seconds of one answer on a connection of its own."""
        with closing(Asker(self.server, self.photographs)) as asker:
            return asker.ask(NEW_PHOTOGRAPH)

    def ask_until(self, stop: threading.Event, seconds: float = float("inf")) -> list[float]:
        """Seconds of each answer."""
        self.latencies_s, end = [], time.monotonic() + seconds
        with closing(Asker(self.server, self.photographs)) as asker:
            while not stop.is_set() and time.monotonic() < end:
                self.latencies_s.append(asker.ask(NEW_PHOTOGRAPH))
                time.sleep(PROBE_PAUSE_S)
        return self.latencies_s


def measure_overload(server: Server, prober: Prober, listed: Path, seconds: int) -> dict[str, float]:
    """More photographs than can be embedded, for some seconds."""
    url, pid = f"{server.url}/v1/heads/{HEAD}/predict", server.process.pid
    settle(pid)  # one process is ready before the others
    capacity = load.post(pid, url, listed, connections=64, seconds=ROUND_S).per_second
    idle_s = float(np.median([prober.ask() for _ in range(20)]))
    before = largest_resident_bytes(pid)
    every_ms = round(1e3 * CONNECTIONS / (AIMED_AT * TIMES * capacity))
    found = load.overload(url, listed, connections=CONNECTIONS, seconds=seconds, every_ms=every_ms)
    first_s = prober.ask()
    settle(pid)
    grown = largest_resident_bytes(pid) / before
    accepted = found.statuses.get(200, 0)
    failed = found.broken + sum(count for status, count in found.statuses.items() if status not in (200, 429))
    offered, refused = found.asked / found.wall_s, found.statuses.get(429, 0)
    print(
        f"overload: {found.asked} requests in {found.wall_s:.0f} s, {offered / capacity:.1f} times"
        f" the {capacity:.0f}/s of 64 connections; {accepted} answered, {refused} refused with 429,"
        f" {failed} failed; the slowest answer took {found.max_ms / 1e3:.2f} s"
    )
    print(f"the first request afterwards took {first_s * 1e3:.0f} ms, idle {idle_s * 1e3:.0f} ms")
    return {
        "ratio_overload_offered_to_capacity": offered / capacity,
        "ratio_overload_failed_to_asked": failed / found.asked,
        "ratio_overload_slowest_to_deadline": found.max_ms / 1e3 / DEADLINE_S,
        "ratio_overload_answered_to_capacity": accepted / found.wall_s / capacity,
        "ratio_overload_memory": grown,
        "ratio_overload_first_to_idle": first_s / idle_s,
    }


def measure_batch(server: Server, prober: Prober, limit: raw.Raw, images: int) -> dict[str, float]:
    """One large batch, and single photographs beside it."""
    alone_s = prober.ask_until(threading.Event(), PROBE_S)
    body = zipped(prober.photographs, images)
    raw_before = limit.run(ROUND_S)
    settle(server.process.pid)
    stop = threading.Event()
    probing = threading.Thread(target=prober.ask_until, args=[stop])
    processor, idle, start = processor_seconds(server.process.pid), idle_seconds(), time.perf_counter()
    probing.start()
    with server.client() as client:
        headers = {"Content-Type": "application/zip", "Accept": "application/x-ndjson"}
        lines = (
            client.post(f"/v1/heads/{HEAD}/predict", content=body, headers=headers).raise_for_status().text
        )
    wall_s = time.perf_counter() - start
    stop.set()
    probing.join()
    used = processor_seconds(server.process.pid) - processor + idle_seconds() - idle
    answered = sum('"probabilities"' in line for line in lines.splitlines())
    if answered != images:
        raise RuntimeError(f"expected {images} predictions, found {answered}")
    per_core = (images + len(prober.latencies_s)) / used
    raw_per_core = np.mean([raw_before.per_core, limit.run(ROUND_S).per_core])
    p99_s, idle_p99_s = (float(np.percentile(found, 99)) for found in (prober.latencies_s, alone_s))
    print(
        f"batch: {images} photographs in {wall_s:.1f} s, with {len(prober.latencies_s)} single ones beside:"
        f" {per_core:.1f} per core and second, the raw limit {raw_per_core:.1f}; p99 of the single ones"
        f" {p99_s * 1e3:.0f} ms, idle {idle_p99_s * 1e3:.0f} ms"
    )
    return {
        "ratio_batch_to_raw": float(per_core / raw_per_core),
        "ratio_p99_beside_batch_to_idle": p99_s / idle_p99_s,
    }


def zipped(photographs: Sequence[bytes], images: int) -> bytes:
    """A zip of photographs that no cache has seen."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for index in range(images):
            name, data = f"{index:05d}.jpg", photographs[index % len(photographs)]
            archive.writestr(name, data + uuid.uuid4().bytes)
    return file.getvalue()


# A bound of each ratio, and whether it is a lower one.
BARS = {
    "ratio_overload_offered_to_capacity": ("requests offered over those that can be answered", TIMES, True),
    "ratio_overload_failed_to_asked": ("failed, of all requests of an overload", 0.0, False),
    "ratio_overload_slowest_to_deadline": (f"slowest answer over a deadline of {DEADLINE_S:g} s", 1.0, False),
    "ratio_overload_memory": ("memory after the overload over before", MEMORY_BAR, False),
    "ratio_batch_to_raw": ("batch over the raw limit", BATCH_BAR, True),
    "ratio_p99_beside_batch_to_idle": (
        "p99 of single photographs beside a batch over idle",
        PROBE_BAR,
        False,
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--seconds", type=int, default=60, help="length of the overload")
    parser.add_argument("--batch", type=int, default=5000, help="photographs of the batch")
    options = parser.parse_args(arguments)
    load.require_wrk()
    extractor = options.extractor or EXTRACTOR
    plan = Plan(extractor, options.data, ROUND_S, 1, (), 0)
    settings = {**FP32, "HEADSTART_REQUEST_TIMEOUT_S": f"{DEADLINE_S:g}"}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, paths = Path(name), plan.photographs()
        teach(plan, folder)
        listed = load.list_photographs(paths, folder)
        limit = stack.enter_context(raw.waiting(extractor, paths))
        photographs = [path.read_bytes() for path in paths]
        with running(folder / "home", extractor=extractor, settings=settings) as server:
            ratios = measure_overload(server, Prober(server, photographs), listed, options.seconds)
        with running(folder / "home", extractor=extractor, settings=FP32) as server:
            ratios |= measure_batch(server, Prober(server, photographs), limit, options.batch)
    for key, (meaning, bound, is_lower) in BARS.items():
        cleared = ratios[key] >= bound if is_lower else ratios[key] <= bound
        sign = ">=" if is_lower else "<="
        print(f"{'ok  ' if cleared else 'MISS'} {meaning}: {ratios[key]:.3f} ({sign} {bound:g})")
    print(json.dumps({key: round(figure, 4) for key, figure in ratios.items()}))


if __name__ == "__main__":
    main()
