"""When the next batch starts, and what a process for the device costs.

The first table is of a *simulated* device, whose time is a fixed part and one for each image: the real
`BatchPolicy` decides how many images a batch takes, on a clock of its own, under four rules of when. It says
how the rules compare on such a device, not how fast any GPU is. The other figures are measured here, in
processor time: the bytes of an image through a socket and through shared memory, and an image by way of the
process that owns a device, here this CPU.
"""

import argparse
import heapq
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np

from benchmarks.server import EXTRACTOR
from service.config import Settings
from service.devices.buckets import Buckets, BucketTimes
from service.devices.frames import Header, Kind, read_header, read_into, write
from service.devices.policy import BatchPolicy
from service.devices.remote import RemoteDevice
from service.devices.sessions import Pixels, Session
from service.devices.settings import processes_of
from service.devices.supervisor import Supervisor
from service.embedding.extractor import Extractor

SIZES = Buckets((1, 2, 4, 8, 16, 32, 64))
# The simulated device, in seconds; and what a client does between an answer and its next image.
FIXED_S, PER_IMAGE_S, THINK_S = 0.002, 0.00005, 0.004
TIMES = BucketTimes(SIZES, {size: FIXED_S + PER_IMAGE_S * size for size in SIZES.sizes})
CLIENTS = (1, 4, 16, 64, 256)
SIMULATED_S = 20.0
IMAGE_BYTES, ROW_BYTES = 224 * 224 * 3, 1728 * 4


@dataclass
class Simulation:
    """Clients that send one image, wait for the answer, think and send the next; one device.

    Parameters
    ----------
    wait_s : how long the first image waits for others while the device is idle.
    most : images of a batch.
    """

    clients: int
    wait_s: float = 0.0
    most: int = SIZES.largest
    latencies_s: list[float] = field(default_factory=list)
    batches: int = 0

    def run(self) -> "Simulation":
        policy = BatchPolicy(TIMES)
        random = np.random.default_rng(0)
        coming = [float(random.uniform(0, THINK_S)) for _ in range(self.clients)]
        heapq.heapify(coming)
        waiting: list[float] = []
        now = 0.0
        while now < SIMULATED_S:
            while coming and coming[0] <= now:
                waiting.append(heapq.heappop(coming))
            if not waiting:
                now = coming[0]
                continue
            start_by = waiting[0] + self.wait_s
            if now < start_by and len(waiting) < self.most:
                now = min(start_by, coming[0] if coming else start_by)
                continue
            count = min(policy.take(len(waiting)), self.most)
            end = now + TIMES.of(count)
            while coming and coming[0] <= end:
                waiting.append(heapq.heappop(coming))
            for came in waiting[:count]:
                self.latencies_s.append(end - came)
                heapq.heappush(coming, end + float(random.exponential(THINK_S)))
            del waiting[:count]
            self.batches += 1
            now = end
        return self

    @property
    def images_per_s(self) -> float:
        return len(self.latencies_s) / SIMULATED_S

    @property
    def cell(self) -> str:
        median_ms = float(np.median(self.latencies_s)) * 1e3
        return f"{self.images_per_s:.0f} {median_ms:7.2f} {len(self.latencies_s) / self.batches:6.1f}"


RULES: dict[str, tuple[float, int]] = {
    "one by one": (0.0, 1),
    "at once": (0.0, SIZES.largest),
    "after 1 ms": (0.001, SIZES.largest),
    "after 5 ms": (0.005, SIZES.largest),
}


def simulate() -> dict[str, float]:
    """Compare rules; ratios of their images per second to those of starting at once."""
    print(
        f"Simulated device: {FIXED_S * 1e3:g} ms a batch and {PER_IMAGE_S * 1e3:g} ms an image;"
        f" clients think {THINK_S * 1e3:g} ms on average."
    )
    print(f"{'an idle device':<16}" + "".join(f"{clients:>17} clients" for clients in CLIENTS))
    print(f"{'starts':<16}" + f"{'img/s  p50 ms  batch':>25}" * len(CLIENTS))
    done = {
        (name, clients): Simulation(clients, wait_s, most).run()
        for name, (wait_s, most) in RULES.items()
        for clients in CLIENTS
    }
    ratios: dict[str, float] = {}
    for name in RULES:
        print(f"{name:<16}" + "".join(f"{done[name, clients].cell:>25}" for clients in CLIENTS))
        for clients in CLIENTS if name != "at once" else ():
            ratio = done[name, clients].images_per_s / done["at once", clients].images_per_s
            ratios[f"ratio_simulated_{name.replace(' ', '_')}_to_at_once_{clients}"] = ratio
    return ratios


def transport(count: int) -> dict[str, float]:
    """Processor time of both sides for an image there and a row back, in microseconds an image."""
    found = {name: _ping(count, name == "shared memory") for name in ("socket", "shared memory")}
    for name, microseconds in found.items():
        print(f"{name:<14}{microseconds:>8.1f} us of processor time an image, both sides together")
    return {f"us_{name.replace(' ', '_')}_per_image": value for name, value in found.items()}


def _ping(count: int, is_shared: bool) -> float:
    ours, theirs = socket.socketpair()
    memory = shared_memory.SharedMemory(create=True, size=IMAGE_BYTES)
    header = Header(Kind.RUN, count=1, length=0 if is_shared else IMAGE_BYTES)
    shared = np.ndarray(IMAGE_BYTES, np.uint8, memory.buf)
    image, row = np.ones(IMAGE_BYTES, np.uint8), np.zeros(ROW_BYTES, np.uint8)
    start = time.process_time()
    child = os.fork()
    if not child:
        batch = np.empty(IMAGE_BYTES, np.uint8)
        for _ in range(count):
            if not read_header(theirs).length:
                batch[:] = shared
            else:
                read_into(theirs, batch.data)
            write(theirs, Header(Kind.ROWS, count=1, length=ROW_BYTES), row.data)
        os._exit(0)
    for _ in range(count):
        if is_shared:
            shared[:] = image
        write(ours, header, image.data)
        read_header(ours)
        read_into(ours, row.data)
    _, _, usage = os.wait4(child, 0)
    seconds = time.process_time() - start + usage.ru_utime + usage.ru_stime
    del shared
    memory.close()
    memory.unlink()
    ours.close()
    theirs.close()
    return seconds / count * 1e6


@contextmanager
def process(extractor: Path, device: str = "cpu") -> Iterator[RemoteDevice]:
    """The processes that run an extractor: one on this CPU, or one on each GPU."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(device=device, extractor_process="always", home=Path(home))
        supervisor = Supervisor(Path(home) / "devices", processes_of(settings), [extractor])
        supervisor.start()
        try:
            remote = RemoteDevice.of(supervisor.folder)
            assert remote is not None
            yield remote
        finally:
            supervisor.close()


def through_a_process(extractor: Path, count: int) -> dict[str, float]:
    """Processor time of an image on one core here, and by way of a process, both of them together."""
    plain = Extractor.load(extractor)
    shape = plain.manifest.input
    images = np.random.default_rng(0).integers(0, 256, (8, shape.height, shape.width, 3), np.uint8)
    here_ms = _processor_ms(plain.session, images, count, 1, None)
    figures: dict[str, float] = {}
    with process(extractor) as device:
        pid = int(device.states()[0]["pid"])
        there = Extractor.load(extractor, device=device).session
        for clients in (1, 8):
            there_ms = _processor_ms(there, images, count, clients, pid)
            print(
                f"{plain.name}: {here_ms:.2f} ms of processor time an image here,"
                f" {there_ms:.2f} by way of a process ({clients} clients)"
            )
            figures[f"ratio_processor_time_process_to_here_{clients}_clients"] = there_ms / here_ms
        there.close()
    return figures


def _processor_ms(session: Session, images: Pixels, count: int, clients: int, pid: int | None) -> float:
    def spent_s() -> float:
        return time.process_time() + (0.0 if pid is None else _processor_s(pid))

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda i: session.run(images[i : i + 1]), range(8)))
        start_s = spent_s()
        list(pool.map(lambda i: session.run(images[i % 8 : i % 8 + 1]), range(count)))
        return (spent_s() - start_s) / count * 1e3


def _processor_s(pid: int) -> float:
    """Processor time of another process so far (proc_pid_stat(5), utime and stime)."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--extractor", type=Path, default=EXTRACTOR)
    parser.add_argument("--images", type=int, default=400, help="images of each measurement on this CPU")
    arguments = parser.parse_args()
    figures = simulate()
    print()
    figures |= transport(3000)
    print()
    figures |= through_a_process(arguments.extractor, arguments.images)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
