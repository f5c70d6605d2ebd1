"""Head versions that are asked together, as one matrix for each extractor. Knows no names and no HTTP.

What a version is never changes, so a stack of versions is kept as long as there is room for it.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.cache import LruCache
from training.heads import Head, HeadStack

VersionKey = tuple[int, int]  # head id and number
Load = Callable[[Sequence[VersionKey]], Mapping[VersionKey, Head]]


@dataclass(frozen=True)
class StackedHead:
    """What an answer says of a head beside its figures."""

    task: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class ExtractorStack:
    """The heads of one extractor: `places` are theirs among all that are asked."""

    digest: str
    places: tuple[int, ...]
    stack: HeadStack


@dataclass(frozen=True)
class Stacked:
    """Versions in the order in which they were asked for, and a stack for each of their extractors."""

    heads: tuple[StackedHead, ...]
    parts: tuple[ExtractorStack, ...]

    @classmethod
    def of(cls, heads: Sequence[Head]) -> "Stacked":
        """Stack the heads of any extractors."""
        places: dict[str, list[int]] = {}
        for place, head in enumerate(heads):
            places.setdefault(head.extractor_digest, []).append(place)
        return cls(
            tuple(StackedHead(head.task, head.classes) for head in heads),
            tuple(
                ExtractorStack(digest, tuple(chosen), HeadStack([heads[place] for place in chosen]))
                for digest, chosen in places.items()
            ),
        )

    @property
    def size_bytes(self) -> int:
        return sum(part.stack.size_bytes for part in self.parts)


class Stacks:
    """Thread-safe.

    Parameters
    ----------
    max_bytes : the kept stacks are never larger together; a larger one is made for each request.
    """

    def __init__(self, max_bytes: int) -> None:
        self._kept: LruCache[tuple[VersionKey, ...], Stacked] = LruCache(max_bytes)
        self._making: dict[tuple[VersionKey, ...], threading.Lock] = {}

    def get(self, versions: tuple[VersionKey, ...], load: Load) -> Stacked | None:
        """The versions as stacks; None if one of them is gone.

        Parameters
        ----------
        load : from versions to those heads that are there.
        """
        stacked = self._kept.get(versions)
        if stacked is not None:
            return stacked
        # A stack is large: many requests for one wait for the first.
        turn = self._making.setdefault(versions, threading.Lock())
        try:
            with turn:
                return self._kept.get(versions) or self._make(versions, load)
        finally:
            self._making.pop(versions, None)

    def keys(self) -> list[tuple[VersionKey, ...]]:
        """The versions of each stack that is kept now."""
        return self._kept.keys()

    def drop(self, stacks: Iterable[tuple[VersionKey, ...]]) -> None:
        """Let go of some stacks."""
        self._kept.drop(stacks)

    def _make(self, versions: tuple[VersionKey, ...], load: Load) -> Stacked | None:
        heads = load(versions)
        if len(heads) < len(versions):
            return None
        stacked = Stacked.of([heads[version] for version in versions])
        self._kept.put(versions, stacked, stacked.size_bytes)
        return stacked
