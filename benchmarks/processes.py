"""What running processes cost, read from /proc (Linux). Knows no server and no load."""

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Positions in /proc/PID/stat after the name, which is in parentheses and may hold anything (proc(5)).
PARENT, UTIME, STIME, CUTIME, CSTIME, RSS = 1, 11, 12, 13, 14, 21

IDLE_S = 0.2
IDLE_SHARE = 0.05
SETTLE_TIMEOUT_S = 60


def cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0))


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children = defaultdict(list)
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                children[_stat(int(entry.name))[PARENT]].append(int(entry.name))
    found = [pid]
    for parent in found:
        found += children[parent]
    return found


def processor_seconds(pid: int) -> float:
    """User and system time of a process and its descendants, those that have ended included."""
    total = 0
    for each in tree(pid):
        with suppress(OSError):
            stat = _stat(each)
            total += stat[UTIME] + stat[STIME] + stat[CUTIME] + stat[CSTIME]
    return total / TICKS_PER_S


def idle_seconds() -> float:
    """Idle time of this process's cores since the machine was started, summed over them."""
    own = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    lines = [line.split() for line in (PROC / "stat").read_text().splitlines()]
    # user, nice, system, idle, iowait, ... of each core
    return sum(int(line[4]) + int(line[5]) for line in lines if line[0] in own) / TICKS_PER_S


def largest_resident_bytes(pid: int) -> int:
    """Resident memory of the largest process of a tree: of a server, one of its workers."""
    sizes = []
    for each in tree(pid):
        with suppress(OSError):
            sizes.append(_stat(each)[RSS] * PAGE_BYTES)
    return max(sizes)


def settle(pid: int) -> None:
    """Wait until a tree has stopped working: what a load generator left unread is still computed.

    Raises
    ------
    TimeoutError
        It did not within a minute.
    """
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while time.monotonic() < deadline:
        before = processor_seconds(pid)
        time.sleep(IDLE_S)
        if processor_seconds(pid) - before <= IDLE_SHARE * IDLE_S:
            return
    raise TimeoutError(f"process {pid} still works {SETTLE_TIMEOUT_S} s after its last request")


@contextmanager
def awake(pid: int) -> Iterator[None]:
    """A stopped tree runs for the length of a block, so that what is not measured costs nothing."""
    signal_tree(pid, signal.SIGCONT)
    try:
        yield
    finally:
        signal_tree(pid, signal.SIGSTOP)


def signal_tree(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process and all that descend from it."""
    for each in tree(pid):
        with suppress(ProcessLookupError):
            os.kill(each, number)


def _stat(pid: int) -> list[int]:
    text = (PROC / str(pid) / "stat").read_text()
    state, *numbers = text.rpartition(")")[2].split()
    return [ord(state), *map(int, numbers)]
