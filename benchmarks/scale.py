"""What 10,000 heads and 1,000,000 cached embeddings cost, beside a hundredth of that.

Two homes are generated: heads of one real head file, with examples, and embeddings of random numbers, some of
examples and the rest of the cache. Two real servers are asked in turns; the start is timed in a process of
its own. Prints a table and, last, one JSON line: medians, the ratio of each, bytes on disk per embedding.

    python -m benchmarks.scale [--heads 10000] [--embeddings 1000000] [--rounds 60]
"""

import argparse
import hashlib
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
from sqlalchemy import insert

from benchmarks.main_job import data_root, images_of
from benchmarks.server import EXTRACTOR, ROOT, Server, running
from service.store import Store
from service.store.tables import examples, head_files, heads, versions
from training.heads import fit_head, save_head
from training.manifest import Manifest

SHARE = 100  # the large home is so many times the small one
EXAMPLES = 20  # of each head, half of each label
LABELS = ("cat", "dog")
STARTS = 5
ROWS_AT_ONCE = 5000
WARM_UPS = 5
SETTINGS = {"HEADSTART_WORKERS": "1", "HEADSTART_STORE_CACHE_BYTES": str(1 << 50)}
START = (
    "import time; from service.config import Settings; from service.engine import Engine;"
    "from service.preparation import prepare;"
    "s = Settings.from_env(); start = time.process_time(); prepare(s); e = Engine.start(s);"
    "print(time.process_time() - start); e.close()"
)


@dataclass(frozen=True)
class Home:
    """A generated home; `cached` are images whose embeddings it has."""

    folder: Path
    heads: int
    embeddings: int
    bytes_per_embedding: float
    cached: tuple[bytes, ...]


def generate(folder: Path, head_count: int, embedding_count: int) -> Home:
    """A home with so many heads and embeddings."""
    folder.mkdir()
    path = folder / "headstart.db"
    with Store.open(f"sqlite:///{path}", str(folder / "blobs")) as store:
        store.migrate()
    manifest = Manifest.load(EXTRACTOR)
    photograph = images_of(data_root() / "cats_dogs")["cat"][0].read_bytes()
    cached = tuple(photograph + number.to_bytes(16, "big") for number in range(ROWS_AT_ONCE))
    keys = [hashlib.sha256(data).hexdigest() for data in cached]
    keys += [hashlib.sha256(b"%d" % number).hexdigest() for number in range(embedding_count - len(keys))]
    empty_bytes = path.stat().st_size
    _put_embeddings(path, manifest, keys)
    bytes_per_embedding = (path.stat().st_size - empty_bytes) / embedding_count
    _put_heads(path, manifest, keys[len(cached) :], head_count)
    return Home(folder, head_count, embedding_count, bytes_per_embedding, cached)


def _put_embeddings(path: Path, manifest: Manifest, keys: list[str]) -> None:
    """Rows of random numbers, written without the care that a server takes: a crash only ends this run."""
    width = sum(manifest.layer_dims.values())
    rows = np.random.default_rng(0).normal(size=(ROWS_AT_ONCE, width)).astype(np.float32)
    vectors = [row.tobytes() for row in rows]
    now = str(datetime.now(UTC).replace(tzinfo=None))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-1000000")
        for start in range(0, len(keys), ROWS_AT_ONCE):
            some = keys[start : start + ROWS_AT_ONCE]
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT INTO embeddings (extractor_digest, sha256, vector, size_bytes, created_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    (manifest.digest, key, vector, len(vector), now)
                    for key, vector in zip(some, vectors, strict=False)
                ),
            )
            connection.execute("COMMIT")


def _put_heads(path: Path, manifest: Manifest, keys: list[str], count: int) -> None:
    """Heads of one version each, whose examples share the embeddings out among them."""
    random = np.random.default_rng(1)
    rows = random.normal(size=(EXAMPLES, sum(manifest.layer_dims.values()))).astype(np.float32)
    labels = [LABELS[number % 2] for number in range(EXAMPLES)]
    fitted = fit_head(rows, labels, extractor_digest=manifest.digest, layer_dims=manifest.layer_dims)
    file, now = save_head(fitted), datetime.now(UTC)
    of_extractor = {"extractor_name": manifest.name, "extractor_digest": manifest.digest}
    with Store.open(f"sqlite:///{path}", "/nowhere") as store:
        for start in range(0, count, ROWS_AT_ONCE):
            numbers = range(start + 1, min(start + ROWS_AT_ONCE, count) + 1)
            with store._database.write() as connection:
                connection.execute(insert(heads), [_head(number, now) | of_extractor for number in numbers])
                connection.execute(insert(examples), list(_examples(numbers, keys, manifest.digest, now)))
                version = {
                    "number": 1,
                    "created_at": now,
                    **of_extractor,
                    "revision": 1,
                    "examples_total": EXAMPLES,
                    "classes": list(LABELS),
                    "options": {},
                    "report": fitted.report.as_dict(),
                    "warnings": [],
                }
                connection.execute(insert(versions), [version | {"head_id": number} for number in numbers])
                stored = {"sha256": hashlib.sha256(file).hexdigest(), "size_bytes": len(file), "data": file}
                connection.execute(
                    insert(head_files), [stored | {"head_id": number, "number": 1} for number in numbers]
                )


def _head(number: int, now: datetime) -> dict[str, object]:
    return {
        "id": number,
        "tenant": "default",
        "name": name_of(number),
        "task": "single_label",
        "revision": 1,
        "published_version": 1,
        "last_version": 1,
        "created_at": now,
        "updated_at": now,
        "keep_inputs": False,
    }


def _examples(numbers: range, keys: list[str], digest: str, now: datetime) -> Iterator[dict[str, object]]:
    for number in numbers:
        for place in range(EXAMPLES):
            yield {
                "id": uuid4().hex,
                "head_id": number,
                "extractor_digest": digest,
                "sha256": keys[(number * EXAMPLES + place) % len(keys)],
                "label": LABELS[place % 2],
                "size_bytes": 1,
                "created_at": now,
            }


def name_of(number: int) -> str:
    return f"head{number:06d}"


class Asker:
    """One connection to the server of a home. Each question is about a head of its own, as far as they go."""

    def __init__(self, home: Home, client: httpx.Client) -> None:
        self._home = home
        self._client = client
        self._random = np.random.default_rng(2)
        self._cached = iter(home.cached)

    def ask(self, what: str) -> float:
        """Seconds until the whole answer is there."""
        method, path, body = self._question(what)
        start = time.perf_counter()
        response = self._client.request(method, path, content=body)
        seconds = time.perf_counter() - start
        response.raise_for_status()
        return seconds

    def _question(self, what: str) -> tuple[str, str, bytes | None]:
        name = name_of(int(self._random.integers(1, self._home.heads + 1)))
        questions: dict[str, Callable[[], tuple[str, str, bytes | None]]] = {
            "list, the first page": lambda: ("GET", "/v1/heads?limit=20", None),
            "list, a page": lambda: ("GET", f"/v1/heads?limit=20&cursor={self._early()}", None),
            "look a head up": lambda: ("GET", f"/v1/heads/{name}", None),
            "list examples": lambda: ("GET", f"/v1/heads/{name}/examples?limit=20", None),
            "predict, cached": lambda: ("POST", f"/v1/heads/{name}/predict", next(self._cached)),
            "predict, new": lambda: (
                "POST",
                f"/v1/heads/{name}/predict",
                self._home.cached[0] + uuid4().bytes,
            ),
            "train": lambda: ("POST", f"/v1/heads/{name}/train", None),
        }
        return questions[what]()

    def _early(self) -> str:
        """The cursor of a page that has its twenty heads."""
        return name_of(int(self._random.integers(1, self._home.heads - 20)))


ASKED = (
    "list, the first page",
    "list, a page",
    "look a head up",
    "list examples",
    "predict, cached",
    "predict, new",
    "train",
)


def ask_all(homes: tuple[Home, Home], rounds: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds of each question to the small and to the large home, asked in turns."""
    times: dict[str, list[list[float]]] = {what: [[], []] for what in ASKED}
    with ExitStack() as stack:
        askers = []
        for home in homes:
            server: Server = stack.enter_context(running(home.folder, settings=SETTINGS))
            askers.append(Asker(home, stack.enter_context(server.client())))
        for number in range(WARM_UPS + rounds):
            for what in ASKED:
                for place, asker in enumerate(askers):
                    seconds = asker.ask(what)
                    if number >= WARM_UPS:
                        times[what][place].append(seconds * 1e3)
    return {
        what: (statistics.median(small), statistics.median(large)) for what, (small, large) in times.items()
    }


def start_ms(home: Home) -> float:
    """Processor time of a start: migrations looked at, blobs tidied, extractor and database opened."""
    environ = {"HEADSTART_HOME": str(home.folder), "HEADSTART_EXTRACTORS": str(EXTRACTOR), **SETTINGS}
    command = ["env", *(f"{name}={value}" for name, value in environ.items()), sys.executable, "-c", START]
    laps = [
        float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
        for _ in range(STARTS)
    ]
    return 1e3 * statistics.median(laps)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", type=int, default=10_000)
    parser.add_argument("--embeddings", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--folder", type=Path, help="Where there is room: some 9 GB at the default size.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        small = generate(Path(name) / "small", arguments.heads // SHARE, arguments.embeddings // SHARE)
        large = generate(Path(name) / "large", arguments.heads, arguments.embeddings)
        medians = {"start": (start_ms(small), start_ms(large)), **ask_all((small, large), arguments.rounds)}
    print(f"{'ms':<24} {small.embeddings:>12,} {large.embeddings:>12,}  ratio")
    for what, (few, many) in medians.items():
        print(f"{what:<24} {few:12.2f} {many:12.2f} {many / few:6.2f}")
    print(f"{'bytes per embedding':<24} {small.bytes_per_embedding:12.0f} {large.bytes_per_embedding:12.0f}")
    found = {
        f"ratio_{what.replace(', ', '_').replace(' ', '_')}": round(many / few, 3)
        for what, (few, many) in medians.items()
    }
    sizes = {"heads": large.heads, "embeddings": large.embeddings}
    on_disk = {"bytes_per_embedding": round(large.bytes_per_embedding)}
    print(json.dumps({"benchmark": "scale", **sizes, **on_disk, **found}))


if __name__ == "__main__":
    main()
