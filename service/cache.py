"""A least-recently-used cache bounded in bytes. Knows nothing of what it keeps."""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """Thread-safe; only for immutable values, which need no check that they are current.

    Parameters
    ----------
    max_bytes : the sizes of the kept values never add up to more. A value larger than that is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept_bytes = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def kept_bytes(self) -> int:
        return self._kept_bytes

    def get(self, key: K) -> V | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: K, value: V, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            return
        with self._lock:
            self._drop(key)
            self._entries[key] = (value, size_bytes)
            self._kept_bytes += size_bytes
            while self._kept_bytes > self._max_bytes:
                self._drop(next(iter(self._entries)))

    def keys(self) -> list[K]:
        """The keys of what is kept now."""
        with self._lock:
            return list(self._entries)

    def drop(self, keys: Iterable[K]) -> None:
        """Let go of some entries; those that are gone already are fine."""
        with self._lock:
            for key in keys:
                self._drop(key)

    def _drop(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._kept_bytes -= entry[1]
