"""What a thousand heads cost one image, and what many images in one request cost, through the real service.

Heads of 2 to 10 classes, learned from real photographs, are imported into a fresh server. One connection asks
one head and all of them in turns, about images that it has not seen and about one that it has. Prints a table
and, last, one JSON line with the ratios within the run.

    python -m benchmarks.many_heads [--heads 1000] [--rounds 60]
"""

import argparse
import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np

from benchmarks.main_job import data_root, images_of
from benchmarks.server import EXTRACTOR, Server, running
from training.heads import fit_head, save_head
from training.image_embedding import ImageEmbedder

SETS = ("cats_dogs", "blood_cells", "ham10000")
IMAGES_PER_CLASS, SHOTS = 20, 5
FEWEST_CLASSES, MOST_CLASSES = 2, 10
WARM_UPS = 5


@dataclass(frozen=True)
class Question:
    """A request but for its image, and whether the image is new each time."""

    name: str
    path: str
    is_new: bool


def head_files(number: int) -> Iterator[bytes]:
    """Heads of random classes and images of the sets."""
    embedder = ImageEmbedder.load(EXTRACTOR)
    rows = {
        f"{name} {label}": [
            embedder.embed(embedder.decode(path.read_bytes())) for path in paths[:IMAGES_PER_CLASS]
        ]
        for name in SETS
        for label, paths in images_of(data_root() / name).items()
    }
    random = np.random.default_rng(0)
    for _ in range(number):
        chosen = random.permutation(list(rows))[: random.integers(FEWEST_CLASSES, MOST_CLASSES + 1)]
        shots = [(label, row) for label in chosen for row in random.permutation(rows[label])[:SHOTS]]
        head = fit_head(
            np.stack([row for _, row in shots]),
            [str(label) for label, _ in shots],
            extractor_digest=embedder.manifest.digest,
            layer_dims=embedder.manifest.layer_dims,
        )
        yield save_head(head)


def import_heads(server: Server, number: int) -> list[str]:
    names = [f"line{index % 10}.{index:04d}" for index in range(number)]
    with server.client() as client:
        for name, data in zip(names, head_files(number), strict=True):
            client.post(f"/v1/heads/{name}/versions", content=data).raise_for_status()
    return names


def cats_and_dogs() -> list[bytes]:
    """Photographs that no head of a benchmark learns from."""
    paths = [path for paths in images_of(data_root() / "cats_dogs").values() for path in paths[100:140]]
    return [path.read_bytes() for path in paths]


class Asker:
    """One connection; every image that it calls new has bytes of its own.

    Parameters
    ----------
    images : what is asked about; photographs of cats and dogs if left out.
    """

    def __init__(self, server: Server, images: Sequence[bytes] = ()) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
        self._images = images or cats_and_dogs()
        self._numbers = count()

    def close(self) -> None:
        self._connection.close()

    def image(self, is_new: bool) -> bytes:
        """An image; bytes behind the end of a JPEG change nothing but its hash."""
        if not is_new:
            return self._images[0]
        return self._images[next(self._numbers) % len(self._images)] + uuid4().bytes

    def ask(self, question: Question) -> float:
        """Seconds until the whole answer is there."""
        image = self.image(question.is_new)
        start = time.perf_counter()
        self._connection.request("POST", question.path, image, {"Content-Type": "image/jpeg"})
        response = self._connection.getresponse()
        body = response.read()
        seconds = time.perf_counter() - start
        if response.status != 200:
            raise RuntimeError(f"{question.name}: {response.status} {body[:500]!r}")
        return seconds


def measure(server: Server, names: Sequence[str], rounds: int) -> dict[str, float]:
    """Median seconds of each question, asked in turns."""
    listed = ",".join(names)
    paths = {
        "one head": f"/v1/heads/{names[0]}/predict",
        "one of many": f"/v1/predict?heads={names[0]}",
        "all, by pattern": "/v1/predict?heads=*",
        "all, by name": f"/v1/predict?heads={listed}",
    }
    questions = [
        Question(f"{name}, {'new' if is_new else 'cached'}", path, is_new)
        for is_new in (True, False)
        for name, path in paths.items()
    ]
    times: dict[str, list[float]] = {question.name: [] for question in questions}
    with closing(Asker(server)) as asker:
        for question in questions:
            for _ in range(WARM_UPS):
                asker.ask(question)
        for _ in range(rounds):
            for question in questions:
                times[question.name].append(asker.ask(question))
    return {name: statistics.median(values) for name, values in times.items()}


def ratios(medians: dict[str, float]) -> dict[str, float]:
    """Of all heads to one, for a new image and a cached one."""
    return {
        f"ratio_{how.replace(' ', '_')}_to_one_{kind}": medians[f"all, {how}, {kind}"]
        / medians[f"one head, {kind}"]
        for kind in ("new", "cached")
        for how in ("by pattern", "by name")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, running(Path(home)) as server:
        names = import_heads(server, arguments.heads)
        medians = measure(server, names, arguments.rounds)
    for name, seconds in medians.items():
        print(f"{name:<28} {seconds * 1e3:8.2f} ms")
    found = {name: round(value, 3) for name, value in ratios(medians).items()}
    for name, value in found.items():
        print(f"{name:<40} {value:.3f}")
    print(json.dumps({"benchmark": "many_heads", "heads": arguments.heads, **found}))


if __name__ == "__main__":
    main()
