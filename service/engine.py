"""Everything a server process holds, built once from the settings: store, extractors, learner, predictor.

Knows how to prepare a home folder before the processes start, and when a process is ready.
"""

from dataclasses import dataclass

from service.checker import Checker
from service.config import Settings
from service.embedders import Embedders, embedder_of, load_extractor, open_registered
from service.evaluator import Evaluator
from service.exporter import Exporter
from service.extractor import Extractor
from service.importer import Importer
from service.learner import Learner
from service.predictor import Predictor
from service.registry import Registry
from service.store import Store
from service.writeback import EmbeddingWriter


def prepare(settings: Settings) -> None:
    """Once, before any process serves: bring the database to the current schema, try out the extractors.

    Raises
    ------
    ManifestError, DeviceError, StoreError
        No process could serve; the message says what to do.
    """
    _load_extractors(settings)
    store = Store.open(settings.resolved_database_url, settings.resolved_blob_url)
    try:
        store.migrate()
        Registry.of(settings, store).sweep()
    finally:
        store.close()


def _load_extractors(settings: Settings) -> list[Extractor]:
    return [load_extractor(settings.extractor_folder(name), settings) for name in settings.extractors]


@dataclass(frozen=True)
class Engine:
    """The parts of one server process. `Engine.start` returns when the process is ready to answer."""

    settings: Settings
    store: Store
    embedders: Embedders
    writer: EmbeddingWriter
    learner: Learner
    predictor: Predictor
    checker: Checker
    evaluator: Evaluator
    exporter: Exporter
    importer: Importer

    @classmethod
    def start(cls, settings: Settings) -> "Engine":
        """Open the store, load and check the extractors.

        Raises
        ------
        ManifestError, DeviceError, StoreError
            The process cannot serve; the message says what to do.
        """
        extractors = _load_extractors(settings)
        store = Store.open(settings.resolved_database_url, settings.resolved_blob_url)
        store.check()
        registry = Registry.of(settings, store)
        embedders = Embedders(
            [embedder_of(extractor, store, settings) for extractor in extractors],
            registry,
            lambda row: open_registered(row, registry, settings),
            most_registered=settings.registered_extractors,
        )
        writer = EmbeddingWriter(store, max_bytes=settings.store_cache_bytes)
        predictor = Predictor(store, embedders, writer, head_cache_bytes=settings.head_cache_bytes)
        return cls(
            settings=settings,
            store=store,
            embedders=embedders,
            writer=writer,
            learner=Learner(store, embedders),
            checker=Checker(store, embedders),
            predictor=predictor,
            evaluator=Evaluator(store, embedders, predictor, writer),
            exporter=Exporter(store, embedders, predictor),
            importer=Importer(store, embedders),
        )

    def close(self) -> None:
        """Finish what is queued and let go of everything."""
        self.embedders.close()
        self.writer.close()
        self.store.close()
