"""What a GPU gives: images per second by provider and batch size, alone and through the process that owns it.

For each provider that works here (CUDA without and with CUDA graphs, TensorRT) one row for each batch size:
images per second, milliseconds a batch, and how far its rows are from those of the CPU. Then the same network
through the process, from many threads with one image each. Refuses to run without an NVIDIA GPU.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.batching import process
from benchmarks.server import EXTRACTOR
from service.devices import LocalDevice
from service.devices.bound import BoundSession
from service.devices.local import DEFAULT_BATCH_SIZES
from service.devices.providers import GpuOptions, gpu_count
from service.devices.sessions import Pixels, Rows
from service.embedding.extractor import Extractor
from training.errors import DeviceError
from training.golden import relative_error

SECONDS = 3.0  # of each measurement
CLIENTS = (1, 16, 128)


def devices(engines: Path) -> Mapping[str, LocalDevice]:
    """The ways to use a GPU."""
    ways = {
        "cuda": ("cuda", GpuOptions()),
        "cuda, graphs": ("cuda", GpuOptions(is_captured=True)),
        "tensorrt": ("tensorrt", GpuOptions(engines=engines)),
    }
    return {name: LocalDevice(kind, gpu, is_batched=True) for name, (kind, gpu) in ways.items()}


def sessions(folder: Path, engines: Path) -> Iterator[tuple[str, BoundSession]]:
    """Those that open here; why the others do not is printed."""
    for name, device in devices(engines).items():
        try:
            extractor = Extractor.load(folder, device=device)
        except DeviceError as error:
            print(f"{name}: {error}")
            continue
        assert isinstance(extractor.session, BoundSession)
        yield name, extractor.session
        extractor.close()


def alone(folder: Path, engines: Path, images: Pixels, expected: Rows) -> dict[str, float]:
    """Each batch size, one batch after the other."""
    figures: dict[str, float] = {}
    print(f"{'device':<16}{'batch':>6}{'img/s':>10}{'ms':>10}{'error':>10}")
    for name, session in sessions(folder, engines):
        for size in session.buckets.sizes:
            batch = np.ascontiguousarray(images[:size])
            count, start = 0, time.perf_counter()
            while time.perf_counter() - start < SECONDS:
                rows = session.start(batch, size).result()
                count += 1
            batch_s = (time.perf_counter() - start) / count
            error = relative_error(rows, expected[:size])
            print(f"{name:<16}{size:>6}{size / batch_s:>10.0f}{batch_s * 1e3:>10.2f}{error:>10.1e}")
            figures[f"images_per_s_{name.replace(', ', '_')}_{size}"] = size / batch_s
    return figures


def through_the_process(folder: Path, images: Pixels) -> dict[str, float]:
    """Threads with one image each, all GPUs."""
    figures: dict[str, float] = {}
    with process(folder, "cuda") as device:
        session = Extractor.load(folder, device=device).session
        for clients in CLIENTS:
            before = device.states()
            with ThreadPoolExecutor(clients) as pool:
                end = time.perf_counter() + SECONDS

                def ask(client: int, end: float = end) -> int:
                    count = 0
                    while time.perf_counter() < end:
                        session.run(images[client % len(images)][np.newaxis])
                        count += 1
                    return count

                rate = sum(pool.map(ask, range(clients))) / SECONDS
            after = device.states()
            run, batches = (
                sum(state[key] for state in after) - sum(state[key] for state in before)
                for key in ("images", "batches")
            )
            print(f"process, {clients:>3} clients: {rate:.0f} img/s, {run / batches:.1f} images a batch")
            figures[f"images_per_s_process_{clients}_clients"] = rate
        session.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extractor", type=Path, default=EXTRACTOR)
    arguments = parser.parse_args()
    try:
        count = gpu_count()
    except DeviceError as error:
        sys.exit(f"Error: {error}")
    print(f"{count} GPUs; the first is measured, the process uses all")
    cpu = Extractor.load(arguments.extractor)
    shape = (max(DEFAULT_BATCH_SIZES), cpu.manifest.input.height, cpu.manifest.input.width, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    expected = cpu.session.run(images)
    with tempfile.TemporaryDirectory() as engines:
        figures = alone(arguments.extractor, Path(engines), images, expected)
    figures |= through_the_process(arguments.extractor, images)
    print(json.dumps({name: round(value, 1) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
