"""The extractors that a process embeds with: those of HEADSTART_EXTRACTORS, and registered ones once used.

Knows which are loaded. Does not know where a registered one comes from, nor how one embeds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from service import metrics
from service.config import Settings
from service.devices.sessions import Device
from service.embedding.embedder import Embedder
from service.embedding.extractor import Extractor
from service.embedding.loading import load_extractor
from service.embedding.precision import precision_with_digest
from service.embedding.registry import Registry
from service.errors import ApiError
from service.shelf import Shelf
from service.store import ExtractorRow, ExtractorUnavailableError, Store
from service.views import view_of
from service.waiting.gathering import Gathering
from training.errors import ManifestError
from training.variant import FLOAT


class Embedders:
    """The extractors of a process, each with its caches; safe to share between threads.

    Parameters
    ----------
    embedders : those of HEADSTART_EXTRACTORS, loaded from start to end. The first is the default.
    store : where the others are found, and where embeddings are kept.
    opening : from a registered extractor to its embedder.
    opening_other : from a digest to what loads an extractor of HEADSTART_EXTRACTORS in the precision
        that it names; None if it names none of them.
    most_registered : how many of both are kept loaded; the least recently used goes.
    """

    def __init__(
        self,
        embedders: Sequence[Embedder],
        store: Store,
        opening: Callable[[ExtractorRow], Embedder],
        opening_other: Callable[[str], Callable[[], Embedder] | None],
        *,
        most_registered: int,
    ) -> None:
        self._by_name = {embedder.extractor.name: embedder for embedder in embedders}
        self._by_digest = {embedder.extractor.digest: embedder for embedder in embedders}
        self._default = embedders[0]
        self._store = store
        self._opening = opening
        self._opening_other = opening_other
        self._registered: Shelf[str, Embedder] = Shelf(most_registered)

    def of(self, store: Store) -> "Embedders":
        """The same extractors for another caller: those that it sees, on its store."""
        view = view_of(self)
        view._store = store
        return view

    def __iter__(self) -> Iterator[Embedder]:
        """Those of HEADSTART_EXTRACTORS."""
        return (embedder.of(self._store) for embedder in self._by_name.values())

    @property
    def default(self) -> Embedder:
        return self._default.of(self._store)

    def named(self, name: str | None) -> Embedder:
        """The embedder of an extractor's name, loaded if it is a registered one; the default without a name.

        Raises
        ------
        ApiError
            404: no extractor of that name is loaded or registered.
        StoreUnavailableError, DeviceError
            It cannot be loaded now.
        """
        if name is None:
            return self.default
        if name in self._by_name:
            return self._by_name[name].of(self._store)
        return self._loaded(self.row(name))

    def with_digest(self, digest: str) -> Embedder:
        """The embedder of the extractor that a head was trained on; loaded now, if it is a registered one or
        another precision of one that is loaded.

        Raises
        ------
        ApiError
            409: it is not loaded or registered, or was exported anew and gives other embeddings.
        StoreUnavailableError, DeviceError
            It cannot be loaded now.
        """
        embedder = self.find(digest)
        if embedder is None:
            raise ApiError(
                409,
                "extractor_mismatch",
                f"this head belongs to extractor {digest[:12]}, which is not loaded or registered; load it"
                " with HEADSTART_EXTRACTORS, add it with `headstart extractors add`, or create the head anew"
                " with PUT",
            )
        return embedder

    def find(self, digest: str) -> Embedder | None:
        """As `with_digest`; None for an extractor that is not loaded or registered."""
        embedder = self.loaded(digest)
        if embedder is not None:
            return embedder
        row = self._store.extractors.with_digest(digest)
        return self._other(digest) if row is None else self._loaded(row)

    def loaded(self, digest: str) -> Embedder | None:
        """The embedder of a digest, if its extractor is loaded."""
        there = self._by_digest.get(digest) or self._registered.peek(digest)
        return there and there.of(self._store)

    def row(self, name: str) -> ExtractorRow:
        """The registered extractor of a name.

        Raises
        ------
        ApiError
            404: there is none.
        """
        row = self._store.extractors.named(name)
        if row is None:
            loaded = ", ".join(self._by_name)
            registered = ", ".join(row.name for row in self.registered()) or "none"
            message = (
                f"no extractor {name!r} is loaded or registered; loaded: {loaded}; registered: {registered}"
            )
            raise ApiError(404, "extractor_not_found", message)
        return row

    def registered(self) -> list[ExtractorRow]:
        """The registered extractors, by name, without those that are loaded from start to end."""
        rows = self._store.extractors.list()
        return [row for row in rows if row.name not in self._by_name and row.digest not in self._by_digest]

    def every_loaded(self) -> tuple[Embedder, ...]:
        """Those that are loaded now, registered ones too."""
        return (*self, *self._registered.values())

    def close(self) -> None:
        """Let go of the threads of all."""
        for embedder in (*self, *self._registered.values()):
            embedder.close()

    def _other(self, digest: str) -> Embedder | None:
        opening = self._opening_other(digest)
        return None if opening is None else self._registered.get(digest, opening).of(self._store)

    def _loaded(self, row: ExtractorRow) -> Embedder:
        there = self._by_digest.get(row.digest)
        there = there or self._registered.get(row.digest, lambda: self._opening(row))
        return there.of(self._store)


def embedder_of(
    extractor: Extractor,
    store: Store,
    settings: Settings,
    gathering: Gathering,
    *,
    origin: Mapping[str, Any] | None = None,
) -> Embedder:
    """The embedder of a loaded extractor, with caches as the settings say."""
    metrics.EXTRACTORS.labels(extractor.name, extractor.digest[:12], extractor.provider).set(1)
    return Embedder(
        extractor,
        store,
        gathering=gathering,
        memory_cache_bytes=settings.memory_cache_bytes,
        origin=origin,
    )


def open_registered(
    row: ExtractorRow,
    registry: Registry,
    settings: Settings,
    gathering: Gathering,
    device: Device | None = None,
) -> Embedder:
    """Fetch and load a registered extractor; `device` as for `load_extractor`.

    Raises
    ------
    ExtractorUnavailableError
        A file is damaged, or the golden inputs give other embeddings here. The next call fetches it again.
    StoreUnavailableError, DeviceError
    """
    folder = registry.fetch(row)
    try:
        extractor = load_extractor(folder, settings, device, precision=FLOAT)
    except ManifestError as error:
        registry.discard(row.digest)
        raise ExtractorUnavailableError(row.name, error) from error
    return embedder_of(extractor, registry.store, settings, gathering, origin=row.origin)


def opening_other(
    digest: str, store: Store, settings: Settings, gathering: Gathering, device: Device | None = None
) -> Callable[[], Embedder] | None:
    """What loads an extractor of HEADSTART_EXTRACTORS in the precision whose rows a digest names.

    Returns
    -------
    None if it names none of them. Else a function that raises

    ExtractorUnavailableError
        Its files were altered, or the golden inputs give other embeddings here.
    DeviceError
    """
    for name in settings.extractors:
        folder = settings.extractor_folder(name)
        precision = precision_with_digest(folder, digest)
        if precision is not None:
            return partial(_open_in, precision, folder, store, settings, gathering, device)
    return None


def _open_in(
    precision: str,
    folder: Path,
    store: Store,
    settings: Settings,
    gathering: Gathering,
    device: Device | None,
) -> Embedder:
    try:
        extractor = load_extractor(folder, settings, device, precision=precision)
    except ManifestError as error:
        advice = "write its files anew, or move the head to another extractor"
        raise ExtractorUnavailableError(folder.name, error, advice) from error
    return embedder_of(extractor, store, settings, gathering)
