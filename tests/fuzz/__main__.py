"""Fuzz every format with its share of the executions, two at once, each in a process of its own.

FUZZ_EXECUTIONS (all formats together), FUZZ_FORMATS (names, separated by commas; all by default), FUZZ_SEED,
FUZZ_FOLDER (where the corpora stay for the next run; a temporary folder by default). Prints a table and one
line of JSON; ends with 1 if anything was found, which then lies in the folder.
"""

import json
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import atheris

# Only code that is instrumented guides the mutations, and it is when it is imported.
with atheris.instrument_imports(
    include=[
        "PIL.BmpImagePlugin",
        "PIL.GifImagePlugin",
        "PIL.JpegImagePlugin",
        "PIL.PngImagePlugin",
        "PIL.TiffImagePlugin",
        "PIL.WebPImagePlugin",
        "python_multipart.multipart",
        "service.exchange.head_archive",
        "service.exchange.importer",
        "service.ingest",
        "service.routes.lines",
        "training.heads.headfile",
        "training.heads.inspection",
        "training.heads.options",
        "training.image_file",
        "training.image_header",
        "zipfile",
    ]
):
    from tests.fuzz.targets import TARGETS

from tests.fuzz.one import SCRATCH, fuzz

EXECUTIONS = 60_000
PROCESSES = 2
RAM = Path("/dev/shm")  # where what is written durably waits for no disk
TAIL_CHARS = 4000
COLUMNS = "{:14}{:>12}{:>7}{:>10}{:>14}{:>11}"


@dataclass(frozen=True)
class Outcome:
    """What became of one format."""

    format: str
    executions: int
    finds: int
    seconds: float
    slowest_ms: float
    peak_mib: int


@dataclass(frozen=True)
class Running:
    """A process that fuzzes one format."""

    name: str
    folder: Path
    start_s: float

    def outcome(self, status: int) -> Outcome:
        """What it wrote, and how it ended."""
        log = (self.folder / "log").read_text(errors="replace")
        shutil.rmtree(self.folder / SCRATCH, ignore_errors=True)
        stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", log))
        slowest = self.folder / "slowest_ms"
        if status:
            print(f"{self.name}:\n{log[-TAIL_CHARS:]}")
        return Outcome(
            format=self.name,
            executions=int(stats.get("number_of_executed_units", 0)),
            finds=int(status != 0),
            seconds=round(time.monotonic() - self.start_s, 1),
            slowest_ms=float(slowest.read_text()) if slowest.exists() else 0.0,
            peak_mib=int(stats.get("peak_rss_mb", 0)),
        )


def start(name: str, executions: int, seed: int, folder: Path) -> int:
    """Fork, since importing takes longer than most formats do; the id of the process."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    with (folder / "log").open("wb") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    fuzz(TARGETS[name], executions, seed, folder)
    raise AssertionError("atheris ends the process")


def run(names: list[str], total: int, seed: int, base: Path) -> list[Outcome]:
    running: dict[int, Running] = {}
    outcomes: list[Outcome] = []
    waiting = list(names)
    while waiting or running:
        while waiting and len(running) < PROCESSES:
            name = waiting.pop(0)
            folder = base / name.replace(" ", "-")
            folder.mkdir(parents=True, exist_ok=True)
            pid = start(name, round(total * TARGETS[name].share), seed, folder)
            running[pid] = Running(name, folder, time.monotonic())
        pid, status = os.wait()
        outcomes.append(running.pop(pid).outcome(status))
    return outcomes


def main() -> int:
    total = int(os.environ.get("FUZZ_EXECUTIONS") or EXECUTIONS)
    names = [name for name in os.environ.get("FUZZ_FORMATS", "").split(",") if name] or list(TARGETS)
    seed = int(os.environ.get("FUZZ_SEED") or 1)
    base = Path(
        os.environ.get("FUZZ_FOLDER")
        or tempfile.mkdtemp(prefix="headstart-fuzz-", dir=RAM if RAM.is_dir() else None)
    )
    outcomes = run(names, total, seed, base)
    print(COLUMNS.format("format", "executions", "finds", "seconds", "slowest (ms)", "peak (MiB)"))
    for each in outcomes:
        print(COLUMNS.format(*asdict(each).values()))
    executions, finds = (sum(getattr(each, name) for each in outcomes) for name in ("executions", "finds"))
    told = {"seed": seed, "executions": executions, "finds": finds}
    print(json.dumps({**told, "formats": [asdict(each) for each in outcomes]}))
    if finds:
        print(f"found: the inputs lie in {base}/*/finds")
    return int(finds > 0)


if __name__ == "__main__":
    sys.exit(main())
