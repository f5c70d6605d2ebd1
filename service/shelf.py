"""A bounded shelf of things that take long to open: one opening of each at a time, the others wait for it.

Knows nothing of what it keeps. What goes is let go of, not closed: whoever still uses it does so to the end.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Shelf(Generic[K, V]):
    """Thread-safe; only for values that never change.

    Parameters
    ----------
    most : how many values are kept; the least recently used goes first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._opening: dict[K, Future[V]] = {}
        self._lock = threading.Lock()

    def peek(self, key: K) -> V | None:
        """The value if it is there; it then counts as used."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key]

    def get(self, key: K, opening: Callable[[], V]) -> V:
        """The value; opened by the first who asks, while others who ask for it wait.

        Raises
        ------
        Exception
            Whatever `opening` raised, for all who waited. The next call tries again.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            future = self._opening.get(key)
            is_first = future is None
            if future is None:
                future = self._opening[key] = Future()
        return self._open(key, opening, future) if is_first else future.result()

    def drop(self, key: K) -> None:
        """Let go of a value; nothing if it is not there."""
        with self._lock:
            self._kept.pop(key, None)

    def values(self) -> list[V]:
        """What is there, least recently used first."""
        with self._lock:
            return list(self._kept.values())

    def _open(self, key: K, opening: Callable[[], V], future: Future[V]) -> V:
        try:
            value = opening()
        except BaseException as error:
            with self._lock:
                del self._opening[key]
            future.set_exception(error)
            raise
        with self._lock:
            del self._opening[key]
            self._kept[key] = value
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        future.set_result(value)
        return value
