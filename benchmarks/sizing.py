"""What a prediction costs a server, and so how many cores it takes: the figures of docs/guide/sizing.md.

Processor time of a whole server (all its processes), by request, over one connection: for images that it has
not seen, for one that it has, and for one answer of many heads. Processor time, unlike time on the wall,
changes little with what else a machine does. Prints a table and, last, one JSON line; `--guide` writes the
figures of the page.

    python -m benchmarks.sizing [--heads 200] [--requests 150] [--guide]
"""

import argparse
import json
import math
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.many_heads import Asker, Question, import_heads
from benchmarks.processes import largest_resident_bytes, processor_seconds, settle
from benchmarks.server import ROOT, Server, running
from benchmarks.serving_table import write_guide

GUIDE = ROOT / "docs" / "guide" / "sizing.md"
BEGIN, END = "<!-- measured by benchmarks.sizing -->", "<!-- end of what was measured -->"
BUSY = 0.6  # share of the cores that is planned to be busy: beyond, queues grow
WARM_UPS = 10
MB = 1e6

MEANING = {
    "new_ms": "an image that no cache has, one head",
    "cached_ms": "an image whose embedding is cached, one head",
    "head_ms": "each further head that is asked about it",
    "worker_mb": "memory of a worker, MB",
}


@dataclass(frozen=True)
class Figures:
    """Processor time in milliseconds of a request with one image, and resident memory in MB of a worker."""

    new_ms: float
    cached_ms: float
    head_ms: float
    worker_mb: float

    def cores(self, requests_per_s: float, *, heads: int = 1, cached: float = 0.0, busy: float = BUSY) -> int:
        """Cores for so many requests a second of one image each, a share `cached` of which is known."""
        ms = (1 - cached) * self.new_ms + cached * self.cached_ms + (heads - 1) * self.head_ms
        return max(1, math.ceil(round(requests_per_s * ms / 1000 / busy, 6)))


def measure(server: Server, heads: int, requests: int) -> Figures:
    names = import_heads(server, heads)
    one = f"/v1/heads/{names[0]}/predict"
    with closing(Asker(server)) as asker:

        def processor_ms(question: Question) -> float:
            """Of one request, the mean over all."""
            for _ in range(WARM_UPS):
                asker.ask(question)
            settle(server.process.pid)
            before = processor_seconds(server.process.pid)
            for _ in range(requests):
                asker.ask(question)
            return 1000 * (processor_seconds(server.process.pid) - before) / requests

        new = processor_ms(Question("new", one, True))
        cached = processor_ms(Question("cached", one, False))
        many = processor_ms(Question("many", "/v1/predict?heads=*", False))
    per_head = max(0.0, many - cached) / (heads - 1)
    resident = largest_resident_bytes(server.process.pid) / MB
    return Figures(round(new, 1), round(cached, 2), round(per_head, 3), round(resident))


def read_figures(page: str) -> Figures:
    """The figures that stand in the page's table."""
    table = page.partition(BEGIN)[2].partition(END)[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.count("|") == 3]
    cells = {row[0]: row[-1] for row in rows}
    return Figures(**{field.name: float(cells[MEANING[field.name]]) for field in fields(Figures)})


def markdown(figures: Mapping[str, float], command: str, day: str) -> str:
    lines = [
        f"Measured on {day} (`{command}`), in milliseconds of a core:",
        "",
        "| a request with | |",
        "|---|---|",
        *(f"| {MEANING[name]} | {value:g} |" for name, value in figures.items()),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=int, default=200)
    parser.add_argument("--requests", type=int, default=150)
    parser.add_argument("--guide", action="store_true", help="write the figures into docs/guide/sizing.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, running(Path(home)) as server:
        found = asdict(measure(server, asked.heads, asked.requests))
    for name, value in found.items():
        print(f"{MEANING[name]:<50} {value:8g}")
    if asked.guide:
        day = datetime.now(UTC).date().isoformat()
        command = f"python -m benchmarks.sizing --heads {asked.heads} --requests {asked.requests}"
        write_guide(GUIDE, markdown(found, command, day), (BEGIN, END))
    print(json.dumps({"benchmark": "sizing", "heads": asked.heads, "requests": asked.requests, **found}))


if __name__ == "__main__":
    main()
