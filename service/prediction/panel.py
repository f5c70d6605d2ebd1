"""Panels: heads that one input is asked of, each with the version that is published at that moment.

Knows names, patterns of names, and which heads cannot answer. Knows no input, and no HTTP beyond the
documented errors.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from service.cache import LruCache
from service.embedding.embedder import Embedder
from service.embedding.embedders import Embedders
from service.errors import ApiError, api_error
from service.prediction.predictor import Predictor
from service.prediction.stacks import Stacked, Stacks, VersionKey
from service.store import HeadNotFoundError, Served, ServedHead, Store, unpublished
from training.heads import StackPrediction
from training.heads.transform import Floats

ANY = "*"  # at the end of a pattern
ATTEMPTS = 3  # at heads that others delete meanwhile
MOST_NAMED = 100  # heads that one error lists
BYTES_PER_HEAD, BYTES_PER_NAME = 500, 100  # about, of a roster and of names that were asked for
ROSTER_CACHE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class SkippedHead:
    """A head that cannot answer, and why."""

    head: str
    error: ApiError

    def as_dict(self) -> dict[str, Any]:
        return {"head": self.head, "code": self.error.code, "message": self.error.message}


@dataclass(frozen=True)
class Roster:
    """The heads that were asked for, at one state of the store.

    Attributes
    ----------
    names : of those that can answer, in the order in which they were asked for.
    versions : the published ones, ascending: the same heads in any order share a stack.
    seats : for each of `versions`, its place in `names`.
    skipped : the names that cannot be answered.
    """

    names: tuple[str, ...]
    versions: tuple[VersionKey, ...]
    seats: tuple[int, ...]
    skipped: tuple[SkippedHead, ...]

    @classmethod
    def of(cls, served: Sequence[ServedHead], skipped: Sequence[SkippedHead]) -> "Roster":
        """Heads that are published, in order."""
        placed = sorted(
            (head.head_id, head.number, seat) for seat, head in enumerate(served) if head.number is not None
        )
        return cls(
            names=tuple(head.name for head in served),
            versions=tuple((head_id, number) for head_id, number, _ in placed),
            seats=tuple(seat for _, _, seat in placed),
            skipped=tuple(skipped),
        )

    def without(self, lost: Mapping[int, ApiError]) -> "Roster":
        """The same without some of `versions`, by their place there."""
        left = {
            seat: key
            for place, (seat, key) in enumerate(zip(self.seats, self.versions, strict=True))
            if place not in lost
        }
        served = [ServedHead(self.names[seat], *left[seat]) for seat in sorted(left)]
        gone = [SkippedHead(self.names[self.seats[place]], error) for place, error in lost.items()]
        return Roster.of(served, [*self.skipped, *gone])


@dataclass(frozen=True)
class Panel:
    """The heads that answer: `stacked` are the versions of the roster; each part of it has an embedder."""

    roster: Roster
    stacked: Stacked
    embedders: tuple[Embedder, ...]

    def predict(
        self, rows: Sequence[Floats], threshold: float | None, beside: Executor
    ) -> list[StackPrediction]:
        """What the heads say of one input.

        Parameters
        ----------
        rows : one of each embedder, (width,)
        threshold : typicality below which it is unknown; None for each head's own
        beside : threads that take a part of the work
        """
        parts = self.stacked.parts
        return [
            part.stack.predict(row, threshold, beside=beside) for part, row in zip(parts, rows, strict=True)
        ]


class PanelMemory:
    """What panels keep, and the threads that share their work: one for all callers of a process.

    Parameters
    ----------
    cache_bytes : for stacks of heads.
    threads : threads beside those that call.
    """

    def __init__(self, cache_bytes: int, *, threads: int) -> None:
        self.stacks = Stacks(cache_bytes)
        self.rosters: LruCache[tuple[tuple[str, ...], str], Roster] = LruCache(ROSTER_CACHE_BYTES)
        self.digests: LruCache[tuple[str, ...], tuple[str, ...]] = LruCache(ROSTER_CACHE_BYTES)
        self.beside = ThreadPoolExecutor(threads, thread_name_prefix="score")

    def close(self) -> None:
        """Let go of the threads."""
        self.beside.shutdown()


class Panels:
    """Safe to share between threads.

    Parameters
    ----------
    max_heads : most heads of one panel.
    """

    def __init__(
        self,
        store: Store,
        embedders: Embedders,
        predictor: Predictor,
        memory: PanelMemory,
        *,
        max_heads: int,
    ) -> None:
        self._store = store
        self._embedders = embedders
        self._predictor = predictor
        self._memory = memory
        self._max_heads = max_heads

    def seat(self, asked: Sequence[str], *, skip: bool) -> Panel:
        """The heads of some names, as they are published now.

        Parameters
        ----------
        asked : names, and patterns such as `line1.*`: all published heads whose name begins so. A head that
            is named twice answers once.
        skip : leave out heads that cannot answer, unless none can.

        Raises
        ------
        ApiError
            413: too many heads. 404, 409: one cannot answer, or none does.
        """
        different = dict.fromkeys(asked)
        if len(different) > self._max_heads:
            raise self._too_many()
        names = [name for name in different if not name.endswith(ANY)]
        prefixes = [name[:-1] for name in different if name.endswith(ANY)]
        for _ in range(ATTEMPTS):
            found = self._store.heads.served(names, prefixes, self._max_heads + 1)
            roster = self._roster(tuple(asked), found)
            if roster.skipped and not (skip and roster.names):
                raise _cannot_answer(roster.skipped)
            panel = self._panel(roster, skip)
            if panel is not None:
                digests = tuple(part.digest for part in panel.stacked.parts)
                self._memory.digests.put(tuple(asked), digests, BYTES_PER_NAME * len(asked))
                return panel
        raise ApiError(409, "conflict", "others deleted heads at every attempt: try again")

    def expected(self, asked: Sequence[str]) -> tuple[Embedder, ...]:
        """The embedders that a panel of these names had last, if they are loaded; it may have others now."""
        digests = self._memory.digests.get(tuple(asked)) or ()
        found = tuple(embedder for digest in digests if (embedder := self._embedders.loaded(digest)))
        return found if len(found) == len(digests) else ()

    def _roster(self, asked: tuple[str, ...], found: Served) -> Roster:
        """Made once for each state of the store."""
        roster = self._memory.rosters.get((asked, found.text))
        if roster is None:
            if len(found.heads) > self._max_heads:
                raise self._too_many()
            roster = _roster(asked, found.heads)
            self._memory.rosters.put((asked, found.text), roster, BYTES_PER_HEAD * len(found.heads))
        return roster

    def _panel(self, roster: Roster, skip: bool) -> Panel | None:
        """None if a version was deleted meanwhile."""
        stacked = self._memory.stacks.get(roster.versions, self._predictor.load_all)
        if stacked is None:
            return None
        embedders: list[Embedder] = []
        lost: dict[int, ApiError] = {}
        for part in stacked.parts:
            try:
                embedders.append(self._embedders.with_digest(part.digest))
            except ApiError as error:
                lost |= dict.fromkeys(part.places, error)
        if not lost:
            return Panel(roster, stacked, tuple(embedders))
        left = roster.without(lost)
        if not (skip and left.names):
            raise _cannot_answer(left.skipped[len(roster.skipped) :])
        return self._panel(left, skip)

    def _too_many(self) -> ApiError:
        message = f"a request can name {self._max_heads} heads (HEADSTART_MAX_HEADS), got more"
        return ApiError(413, "too_many_heads", message, param="heads")


def _versions_of(served: Sequence[ServedHead]) -> tuple[VersionKey, ...]:
    return tuple((head.head_id, head.number) for head in served if head.number is not None)


def _roster(asked: Sequence[str], found: Sequence[ServedHead]) -> Roster:
    by_name = {head.name: head for head in found}
    served: dict[str, ServedHead] = {}
    skipped: list[SkippedHead] = []
    for name in dict.fromkeys(asked):
        if name.endswith(ANY):
            matching = _beginning(found, name[:-1])
            served |= {head.name: head for head in matching}
            if not matching:
                error = ApiError(404, "head_not_found", f"no published head has a name like {name!r}")
                skipped.append(SkippedHead(name, error))
        elif name not in by_name:
            skipped.append(SkippedHead(name, api_error(HeadNotFoundError(name))))
        elif by_name[name].number is None:
            skipped.append(SkippedHead(name, api_error(unpublished(name))))
        else:
            served[name] = by_name[name]
    return Roster.of(list(served.values()), skipped)


def _beginning(found: Sequence[ServedHead], prefix: str) -> list[ServedHead]:
    """The published heads, of some that ascend by name, whose names begin so."""
    after = takewhile(
        lambda head: head.name.startswith(prefix),
        found[bisect_left(found, prefix, key=lambda head: head.name) :],
    )
    return [head for head in after if head.number is not None]


def _cannot_answer(skipped: Sequence[SkippedHead]) -> ApiError:
    """One error for heads that cannot answer: that of the first, all of them listed."""
    first = skipped[0].error
    names = [one.head for one in skipped]
    more = f"; {len(names)} of the heads that were named cannot answer" if len(names) > 1 else ""
    details = {"heads": names[:MOST_NAMED]}
    return ApiError(first.status, first.code, f"{first.message}{more}", param="heads", details=details)
