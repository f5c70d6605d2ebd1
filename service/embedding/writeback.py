"""Stores embeddings behind the answer, so that a prediction does not wait for the database.

Embeddings are a cache: what a crash loses is computed again. Those of examples are not written here: they are
committed together with their examples.
"""

import logging
import queue
import threading
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from service.store import Store, StoreError
from service.views import view_of

logger = logging.getLogger("headstart.writeback")

Vectors = Mapping[str, npt.NDArray[np.float32]]

# Bounds of one transaction, and how many bytes are written between two looks at the size of the cache.
MAX_BATCH = 512
PRUNE_EVERY_BYTES = 16 * 1024 * 1024
QUEUE_BATCHES = 1024
# How long embeddings gather: a transaction of twenty takes little longer than one of a single embedding.
GATHER_S = 0.25


class EmbeddingWriter:
    """One background thread that writes embeddings in batches and keeps the store's cache bounded.

    Parameters
    ----------
    store : where they go.
    max_bytes : embeddings that belong to no example are pruned, oldest first, beyond this.
    """

    def __init__(self, store: Store, *, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._queue: queue.Queue[tuple[str, Vectors] | None] = queue.Queue(QUEUE_BATCHES)
        self._written_bytes = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="embedding-writer", daemon=True)
        self._thread.start()

    def of(self, store: Store) -> "EmbeddingWriter":
        """The same queue and thread for the embeddings of another caller."""
        view = view_of(self)
        view._store = store
        return view

    def add(self, digest: str, vectors: Vectors) -> None:
        """Queue embeddings of the extractor with this digest; drops them when the disk cannot follow."""
        if not vectors or not self._max_bytes:
            return
        try:
            self._queue.put_nowait((self._store.embeddings.space(digest), vectors))
        except queue.Full:
            logger.warning("the embedding cache cannot follow: %d embeddings not stored", len(vectors))

    def close(self) -> None:
        """Write what is queued and stop."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            pending: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
            count = 0
            entry = self._queue.get()
            self._closing.wait(GATHER_S)
            while True:
                if entry is None:
                    closing = True
                    break
                space, vectors = entry
                pending.setdefault(space, {}).update(vectors)
                count += len(vectors)
                if count >= MAX_BATCH:
                    break
                try:
                    entry = self._queue.get_nowait()
                except queue.Empty:
                    break
            self._write(pending)

    def _write(self, pending: Mapping[str, Vectors]) -> None:
        try:
            for space, vectors in pending.items():
                self._store.embeddings.put_into(space, vectors)
                self._written_bytes += sum(vector.nbytes for vector in vectors.values())
            if self._written_bytes >= PRUNE_EVERY_BYTES:
                self._written_bytes = 0
                self._store.embeddings.prune(self._max_bytes)
        except StoreError as error:
            logger.warning("embeddings not stored: %s", error)
