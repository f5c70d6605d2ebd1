"""What a head may show: the states that one writer has given it, and when, against what readers saw.

A read may show any state from the last one that was acknowledged before it began to the last one that was
begun before it ended; nothing older, nothing that was never written. Knows no HTTP.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class State:
    """A head as its writer left it; `published` and all else are None where there is no head."""

    published: int | None = None
    versions: tuple[int, ...] | None = None
    examples: int | None = None


@dataclass
class History:
    """The states of one head, in order. One thread writes, any number of them read."""

    states: list[State] = field(default_factory=lambda: [State()])
    begun_s: list[float] = field(default_factory=lambda: [0.0])
    acknowledged_s: list[float] = field(default_factory=lambda: [0.0])
    reads: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def now(self) -> State:
        return self.states[-1]

    @contextmanager
    def writing(self, state: State) -> Iterator[None]:
        """A write that gives the head a state: begun now, acknowledged when the block ends."""
        with self._lock:
            self.states.append(state)
            self.begun_s.append(time.monotonic())
            self.acknowledged_s.append(float("inf"))
        yield
        with self._lock:
            self.acknowledged_s[-1] = time.monotonic()

    def check(self, read: Callable[[], Seen], shown: Callable[[State], Seen], what: str) -> None:
        """Read, and see whether that could be shown.

        Parameters
        ----------
        shown : what the read shows of a state.
        """
        start_s = time.monotonic()
        seen = read()
        end_s = time.monotonic()
        with self._lock:
            oldest = max(i for i, acked_s in enumerate(self.acknowledged_s) if acked_s <= start_s)
            newest = max(i for i, begun_s in enumerate(self.begun_s) if begun_s <= end_s)
            possible = [shown(state) for state in self.states[oldest : newest + 1]]
            self.reads += 1
        assert seen in possible, f"{what}: saw {seen}, possible were {possible}"
