"""Inputs to rows of an extractor through the caches: memory, then store, then the extractor on every core.

The thread that asks does the work itself, once it is its turn; other threads join it for a batch.
A row is an embedding followed by the taps of an extractor that has them. An input is known by the sha256 of
its bytes, an extractor by its digest. Knows no heads and no HTTP.
"""

import contextvars
import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from service import metrics
from service.cache import LruCache
from service.devices.sessions import DeviceBusyError
from service.embedding.extractor import Extractor
from service.store import Store
from service.views import view_of
from service.waiting.gathering import Gathering
from service.waiting.patience import Patience, current_patience
from training.errors import InputError

Vector = npt.NDArray[np.float32]
# In memory, an embedding takes so much beside its numbers: its key, its array, its place in the cache.
ENTRY_BYTES = 500
# Inputs of a batch that share a turn: what is done for each goes faster right after its like. A single input
# beside the batch waits for no more of them.
FEW_TOGETHER = 4
Chunk = Sequence[tuple[str, bytes]]  # inputs by key


@dataclass(frozen=True)
class Embedded:
    """The rows of a batch.

    Attributes
    ----------
    keys : sha256 of each input, in order.
    vectors : row, shape (width,), of each key that could be embedded.
    computed : the vectors among them that no cache had.
    errors : what is wrong with an input, by its position in the batch.
    decode_s, embed_s : wall time of the batch, shared out between decoding and the network.
    """

    keys: tuple[str, ...]
    vectors: Mapping[str, Vector]
    computed: Mapping[str, Vector]
    errors: Mapping[int, InputError]
    decode_s: float
    embed_s: float

    def matrix(self, positions: Sequence[int]) -> npt.NDArray[np.float32]:
        """The rows of some positions, shape (len(positions), width)."""
        return np.stack([self.vectors[self.keys[position]] for position in positions])


@dataclass
class _Work:
    """What one thread found in its chunk of a batch, and what the whole batch comes to."""

    vectors: dict[str, Vector] = field(default_factory=dict)
    errors: dict[str, InputError] = field(default_factory=dict)
    decode_s: float = 0.0
    embed_s: float = 0.0


class Embedder:
    """Embeds inputs with one extractor; may be called from many threads at once.

    Parameters
    ----------
    extractor : a loaded extractor.
    store : where embeddings are kept for all processes.
    gathering : who decodes and embeds when, and with whom; shared by the extractors of a process.
    memory_cache_bytes : bound of the cache in memory.
    origin : where a registered extractor comes from; None for one of HEADSTART_EXTRACTORS.
    """

    def __init__(
        self,
        extractor: Extractor,
        store: Store,
        *,
        gathering: Gathering,
        memory_cache_bytes: int,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.extractor = extractor
        self.origin = origin
        self._store = store
        self._space = store.embeddings.space(extractor.digest)
        # By space, so that a tenant does not learn from its answers what another has embedded.
        self._memory: LruCache[tuple[str, str], Vector] = LruCache(memory_cache_bytes)
        self._gathering = gathering
        self._joining = ThreadPoolExecutor(gathering.turns.at_once, thread_name_prefix="embed")
        self._closed = threading.Event()

    @property
    def registration(self) -> Mapping[str, str]:
        """Name by digest if the extractor is registered: what a change of a head on it relies on."""
        return {} if self.origin is None else {self.extractor.digest: self.extractor.name}

    def of(self, store: Store) -> "Embedder":
        """The same extractor, threads and memory on the store of another caller."""
        if store is self._store:
            return self
        view = view_of(self)
        view._store = store
        view._space = store.embeddings.space(self.extractor.digest)
        return view

    def close(self) -> None:
        """Let go of the threads; what is not embedded yet belongs to requests that were given up."""
        self._closed.set()
        self._joining.shutdown(cancel_futures=True)
        self.extractor.close()

    def embed(self, inputs: Sequence[bytes], *, doomed: threading.Event | None = None) -> Embedded:
        """Embed a batch; an input seen before, here or in an earlier batch, is not embedded again.

        Parameters
        ----------
        inputs : the bytes of each input.
        doomed : for a batch that is worth nothing with a bad input in it. Once set, by the caller or by a bad
            input, the rest is decoded, so that every bad input is found, but no longer embedded.

        Raises
        ------
        ApiError
            504 `deadline_exceeded`: nobody waits for the request any more, or the server stops.
        """
        start = time.perf_counter()
        keys = tuple(hashlib.sha256(data).hexdigest() for data in inputs)
        vectors = self.cached(keys)
        missing = {key: data for key, data in zip(keys, inputs, strict=True) if key not in vectors}
        work = self._compute(missing, doomed)
        vectors.update(work.vectors)
        metrics.count_embeddings("computed", len(work.vectors))
        wall_s = time.perf_counter() - start
        busy_s = work.decode_s + work.embed_s
        decode_share = work.decode_s / busy_s if busy_s else 0.0
        return Embedded(
            keys=keys,
            vectors=vectors,
            computed=work.vectors,
            errors={i: work.errors[key] for i, key in enumerate(keys) if key in work.errors},
            decode_s=wall_s * decode_share,
            embed_s=wall_s * (1 - decode_share),
        )

    def matrix(self, keys: Sequence[str], vectors: Mapping[str, Vector]) -> npt.NDArray[np.float32]:
        """The rows of some keys, shape (len(keys), width)."""
        rows = np.empty((len(keys), self.extractor.width), np.float32)
        for row, key in enumerate(keys):
            rows[row] = vectors[key]
        return rows

    def cached(self, keys: Sequence[str]) -> dict[str, Vector]:
        """The embeddings that memory or store has, by key."""
        found: dict[str, Vector] = {}
        absent: list[str] = []
        for key in dict.fromkeys(keys):
            vector = self._memory.get((self._space, key))
            if vector is None:
                absent.append(key)
            else:
                found[key] = vector
        metrics.count_embeddings("memory", len(found))
        if absent:
            with metrics.stage("store"):
                stored = self._store.embeddings.get(self.extractor.digest, absent)
            metrics.count_embeddings("store", len(stored))
            for key, vector in stored.items():
                self._memory.put((self._space, key), vector, vector.nbytes + ENTRY_BYTES)
            found.update(stored)
        return found

    def sweep(self) -> int:
        """Drop from memory, of all tenants, what the database does not have now; how many embeddings."""
        spaces: dict[str, list[str]] = {}
        for space, key in self._memory.keys():  # noqa: SIM118
            spaces.setdefault(space, []).append(key)
        dropped = 0
        for space, keys in spaces.items():
            there = self._store.embeddings.existing(space, keys)
            gone = [(space, key) for key in keys if key not in there]
            self._memory.drop(gone)
            dropped += len(gone)
        return dropped

    def _compute(self, missing: Mapping[str, bytes], doomed: threading.Event | None) -> _Work:
        work = _Work()
        if not missing:
            return work
        items = list(missing.items())
        fair = -(-len(items) // self._gathering.turns.at_once)
        size = max(self.extractor.batch_size, min(fair, FEW_TOGETHER))
        chunks = [items[i : i + size] for i in range(0, len(items), size)]
        patience = current_patience()
        brief = len(items) <= self.extractor.batch_size
        for part in self._shared_out(
            chunks, lambda chunk: self._compute_chunk(chunk, doomed, patience, brief)
        ):
            work.vectors.update(part.vectors)
            work.errors.update(part.errors)
            work.decode_s += part.decode_s
            work.embed_s += part.embed_s
        for key, vector in work.vectors.items():
            self._memory.put((self._space, key), vector, vector.nbytes + ENTRY_BYTES)
        return work

    def _shared_out(self, chunks: Sequence[Chunk], compute: Callable[[Chunk], _Work]) -> list[_Work]:
        """Compute chunks in this thread and, for more than one, in those that are free to join it."""
        left = iter(chunks)  # next() of an iterator of a sequence is atomic

        def work() -> list[_Work]:
            return [compute(chunk) for chunk in left]

        joined = [
            self._joining.submit(contextvars.copy_context().run, work)
            for _ in range(min(self._gathering.turns.at_once, len(chunks)) - 1)
        ]
        try:
            parts = work()
        finally:
            for _ in left:  # after an error nobody needs the rest
                pass
            for future in joined:
                future.cancel()  # one that has not begun has nothing left to do
            wait(joined)
        return parts + [part for future in joined if not future.cancelled() for part in future.result()]

    def _compute_chunk(
        self, chunk: Chunk, doomed: threading.Event | None, patience: Patience, brief: bool
    ) -> _Work:
        part = _Part(self.extractor, chunk, doomed, patience)
        try:
            if brief and self.extractor.batch_size == 1:
                self._gathering.share(
                    (partial(self._require_open, patience), part.decode, part.embed), patience
                )
            else:
                with self._gathering.turns.turn(patience, brief=brief, pieces=len(chunk)):
                    self._require_open(patience)
                    part.decode()
                    part.embed()
        except DeviceBusyError as error:
            raise patience.expired() from error
        return part.work

    def _require_open(self, patience: Patience) -> None:
        if self._closed.is_set():
            raise patience.expired()


class _Part:
    """A chunk of a batch on its way through an extractor."""

    def __init__(
        self, extractor: Extractor, chunk: Chunk, doomed: threading.Event | None, patience: Patience
    ) -> None:
        self.work = _Work()
        self._extractor = extractor
        self._chunk = chunk
        self._doomed = doomed
        self._patience = patience
        self._images: dict[str, npt.NDArray[np.uint8]] = {}

    def decode(self) -> None:
        start = time.perf_counter()
        for key, data in self._chunk:
            try:
                self._images[key] = self._extractor.decode(data)
            except InputError as error:
                self.work.errors[key] = error
        self.work.decode_s = time.perf_counter() - start
        metrics.observe_stage("decode", self.work.decode_s)
        if self._doomed is not None and self.work.errors:
            self._doomed.set()

    def embed(self) -> None:
        start = time.perf_counter()
        if self._images and not (self._doomed and self._doomed.is_set()):
            keys, images, size = list(self._images), list(self._images.values()), self._extractor.batch_size
            for at in range(0, len(keys), size):
                rows = self._extractor.embed(images[at : at + size], within_s=self._patience.left_s)
                for key, row in zip(keys[at : at + size], rows, strict=True):
                    self.work.vectors[key] = _own(row)  # a view would keep all of them in memory
        self.work.embed_s = time.perf_counter() - start
        metrics.observe_stage("embed", self.work.embed_s)


def _own(row: Vector) -> Vector:
    copied = row.copy()
    copied.flags.writeable = False
    return copied
