"""Image files -> rows of an extractor, on every core: in processes, with the cache on disk.

What was embedded is kept every few images, so that a command that was stopped or killed goes on where it was.
An image that cannot be read is told and the others go on. Knows no label and no torch.
"""

import hashlib
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing.connection import wait as wait_for_handles
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.embedding_cache import EmbeddingCache
from training.errors import InputError
from training.image_embedding import ImageEmbedder
from training.manifest import Manifest
from training.preprocess import DEFAULT_LIMITS, DecodeLimits

Floats = NDArray[np.float32]

TASK_IMAGES = 8  # of one task of a process: some tens of milliseconds
TASKS_PER_PROCESS = 3
KEPT_IMAGES = 64  # so many rows are lost at most when a command is killed
WORTH_A_PROCESS_IMAGES = 32  # in the time that a process takes to start, another embeds about as many


@dataclass(frozen=True, eq=False)
class EmbeddedFile:
    """The row (width,) of one file, its sha256 in hexadecimal, and whether it was cached."""

    path: Path
    sha256: str
    row: Floats
    cached: bool


@dataclass(frozen=True)
class UnusableFile:
    """A file that is left out, and why, in the user's words."""

    path: Path
    reason: str


@dataclass(frozen=True)
class _Item:
    path: Path
    key: bytes


def embed_files(
    extractor: Path,
    paths: Sequence[Path],
    cache_root: Path,
    *,
    processes: int,
    limits: DecodeLimits = DEFAULT_LIMITS,
) -> Iterator[EmbeddedFile | UnusableFile]:
    """Embed files as they become done, in no order.

    Parameters
    ----------
    extractor : folder of an extractor
    cache_root : the cache of each extractor is a folder in it, named by the digest
    processes : most processes; few files take fewer

    Raises
    ------
    ManifestError
        The extractor is incomplete or altered.
    BrokenProcessPool
        A process died. What was embedded until then is kept.
    """
    manifest = Manifest.load(extractor)
    cache = EmbeddingCache(cache_root / manifest.digest, manifest.width)
    known = cache.read()
    keeping = Keeping(cache)
    processes = max(1, min(processes, len(paths) // WORTH_A_PROCESS_IMAGES))
    try:
        with _pool(processes, extractor, limits) as pool:
            tasks = _Tasks(pool, processes * TASKS_PER_PROCESS)
            for path in paths:
                item = _hashed(path)
                if isinstance(item, UnusableFile):
                    yield item
                elif item.key in known:
                    yield EmbeddedFile(path, item.key.hex(), known[item.key], cached=True)
                else:
                    yield from keeping.kept(tasks.add(item))
            yield from keeping.kept(tasks.finish())
    finally:
        keeping.flush()


@dataclass
class Keeping:
    """Writes new rows to a cache, some at a time; `flush` writes the last ones."""

    cache: EmbeddingCache
    waiting: list[EmbeddedFile] = field(default_factory=list)

    def kept(self, outcomes: Iterator[EmbeddedFile | UnusableFile]) -> Iterator[EmbeddedFile | UnusableFile]:
        """The outcomes as they come, once their rows are kept or wait for it."""
        for outcome in outcomes:
            if isinstance(outcome, EmbeddedFile) and not outcome.cached:
                self.waiting.append(outcome)
                if len(self.waiting) >= KEPT_IMAGES:
                    self.flush()
            yield outcome

    def flush(self) -> None:
        """Write what waits."""
        if self.waiting:
            keys = [bytes.fromhex(one.sha256) for one in self.waiting]
            self.cache.add(keys, np.stack([one.row for one in self.waiting]))
            self.waiting = []


class _Tasks:
    """Hands out a few files at a time, with a bounded number of tasks under way."""

    def __init__(self, pool: Executor, most: int) -> None:
        self._pool = pool
        self._most = most
        self._next: list[_Item] = []
        self._running: set[Future[list[Floats | str]]] = set()
        self._items: dict[Future[list[Floats | str]], list[_Item]] = {}

    def add(self, item: _Item) -> Iterator[EmbeddedFile | UnusableFile]:
        """Add a file; what has become done meanwhile."""
        self._next.append(item)
        if len(self._next) >= TASK_IMAGES:
            self._submit()
        while len(self._running) > self._most:
            yield from self._done()

    def finish(self) -> Iterator[EmbeddedFile | UnusableFile]:
        """Wait for all that is left."""
        if self._next:
            self._submit()
        while self._running:
            yield from self._done()

    def _submit(self) -> None:
        task = self._pool.submit(_embed, [(item.path, item.key) for item in self._next])
        self._running.add(task)
        self._items[task], self._next = self._next, []

    def _done(self) -> Iterator[EmbeddedFile | UnusableFile]:
        done, self._running = wait(self._running, return_when=FIRST_COMPLETED)
        for task in done:
            for item, found in zip(self._items.pop(task), task.result(), strict=True):
                if isinstance(found, str):
                    yield UnusableFile(item.path, found)
                else:
                    yield EmbeddedFile(item.path, item.key.hex(), found, cached=False)


def _hashed(path: Path) -> _Item | UnusableFile:
    try:
        with path.open("rb") as stream:
            return _Item(path, hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        return UnusableFile(path, f"it cannot be read: {error.strerror}")


def _pool(processes: int, extractor: Path, limits: DecodeLimits) -> ProcessPoolExecutor:
    """Started anew instead of forked: onnxruntime and its threads do not survive a fork."""
    return ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_open,
        initargs=(extractor, limits),
    )


_embedders: list[ImageEmbedder] = []  # of a process of the pool: one


def _open(extractor: Path, limits: DecodeLimits) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _embedders.append(ImageEmbedder.load(extractor, limits=limits))


def _die_with_parent() -> None:
    """A parent that is killed cannot tell its processes, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_handles([parent.sentinel])
        os._exit(1)


def _embed(files: Sequence[tuple[Path, bytes]]) -> list[Floats | str]:
    """In a process of the pool: the row of each file, or what is wrong with it."""
    return [_row(_embedders[0], path, key) for path, key in files]


def _row(embedder: ImageEmbedder, path: Path, key: bytes) -> Floats | str:
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).digest() != key:
            return "it was changed meanwhile"
        return embedder.embed(embedder.decode(data))
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
