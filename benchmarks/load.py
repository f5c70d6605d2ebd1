"""A server under wrk: what it answered, and the processor time that it took meanwhile.

wrk shares the cores with the server, and a machine has other work besides, so two figures are taken of a
round. `per_core` is images per second of the cores' time that was the server's to use: what it used, and what
was left idle; wrk's own time and that of other programs is not in it. On a quiet machine that is the
throughput with wrk's share subtracted, and a server that leaves a core idle is charged for it.
`per_processor_s` is images per second of processor time of the server: it says nothing of idle cores.
Knows no server's name and no bar.
"""

import json
import os
import shutil
import subprocess
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import idle_seconds, processor_seconds, settle

SCRIPT = Path(__file__).with_name("photographs.lua")
ANSWER_TIMEOUT_S = 30


class LoadError(RuntimeError):
    """Requests failed, or none was answered: the round measured nothing."""


@dataclass(frozen=True)
class Round:
    """Some seconds of work.

    Attributes
    ----------
    images : how many were answered.
    wall_s : for how long.
    processor_s : processor time of the server, or of the raw processes.
    idle_s : time that the cores were idle meanwhile, summed over them.
    generator_s : processor time of the load generator.
    p50_ms, p99_ms : latency of one image.
    """

    images: int
    wall_s: float
    processor_s: float
    idle_s: float
    generator_s: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Images per second on the wall, whatever the load generator took."""
        return self.images / self.wall_s

    @property
    def per_core(self) -> float:
        """Images per second of the cores' time that the server used or left idle."""
        return self.images / (self.processor_s + self.idle_s)

    @property
    def per_processor_s(self) -> float:
        """Images per second of processor time."""
        return self.images / self.processor_s


def require_wrk() -> None:
    """Raises LoadError without wrk."""
    if shutil.which("wrk") is None:
        raise LoadError("the load generator is missing: apt-get install wrk")


def list_photographs(paths: Sequence[Path], folder: Path) -> Path:
    """The file that tells the script what to post.

    Raises
    ------
    LoadError
        There are no photographs.
    """
    if not paths:
        raise LoadError("there are no photographs to post")
    listed = folder / "photographs.txt"
    listed.write_text("".join(f"{path}\n" for path in paths))
    return listed


def post(pid: int, url: str, photographs: Path, *, connections: int, seconds: int, new: bool = True) -> Round:
    """Post photographs to a server for some seconds, and wait until it has nothing left to do.

    Parameters
    ----------
    pid : the server's first process; all that descend from it count as the server.
    photographs : as `list_photographs` wrote it.
    new : whether each input is one that no cache has seen; else it is one photograph over and over.

    Raises
    ------
    LoadError
        An answer was not 2xx, or a connection failed.
    """
    before, idle_before = processor_seconds(pid), idle_seconds()
    found, used = _wrk(url, photographs, connections, seconds, "new" if new else "same")
    processor_s, idle_s = processor_seconds(pid) - before, idle_seconds() - idle_before
    if found["refused"] or found["broken"] or not found["answers"]:
        raise LoadError(
            f"{url} at {connections} connections: {found['answers']} answers, {found['refused']} of them not"
            f" 2xx, {found['broken']} failed connections"
        )
    settle(pid)
    return Round(
        images=found["answers"],
        wall_s=found["wall_s"],
        processor_s=processor_s,
        idle_s=idle_s,
        generator_s=used,
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
    )


@dataclass(frozen=True)
class Overload:
    """Some seconds of more requests than a server can answer.

    Attributes
    ----------
    statuses : how many answers had each status.
    broken : connections that failed.
    wall_s : for how long.
    max_ms : the longest that an answer took.
    """

    statuses: Mapping[int, int]
    broken: int
    wall_s: float
    max_ms: float

    @property
    def asked(self) -> int:
        return sum(self.statuses.values()) + self.broken


def overload(url: str, photographs: Path, *, connections: int, seconds: int, every_ms: int) -> Overload:
    """Post photographs, each new, on many connections, whatever the answers are.

    Parameters
    ----------
    every_ms : how long a connection waits after an answer until it asks again.
    """
    found, _ = _wrk(url, photographs, connections, seconds, "new", str(every_ms))
    statuses: Counter[int] = Counter()
    for counts in found["statuses"]:
        statuses.update({int(status): count for status, count in counts.items()})
    return Overload(dict(statuses), found["broken"], found["wall_s"], found["max_ms"])


def _wrk(url: str, photographs: Path, connections: int, seconds: int, *how: str) -> tuple[Any, float]:
    """What the script found, and the processor time of wrk in seconds."""
    command = ["wrk", "--threads", "1", "--connections", f"{connections}", "--duration", f"{seconds}s"]
    command += ["--timeout", f"{ANSWER_TIMEOUT_S}s", "--script", str(SCRIPT), url]
    command += ["--", str(photographs), how[0], uuid.uuid4().hex, *how[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as generator:
        assert generator.stdout is not None
        output = generator.stdout.read()
        _, status, used = os.wait4(generator.pid, 0)
        generator.returncode = os.waitstatus_to_exitcode(status)
    if generator.returncode:
        raise LoadError(f"wrk failed:\n{output.decode(errors='replace')}")
    return json.loads(output.splitlines()[-1]), used.ru_utime + used.ru_stime
