"""Everything a server process holds, built once from the settings: store, extractors, learner, predictor.

Knows when a process is ready.
"""

import logging
from dataclasses import dataclass

from service.cache import LruCache
from service.config import Settings
from service.devices.sessions import Device
from service.embedding.embedders import Embedders, embedder_of, open_registered, opening_other
from service.embedding.loading import load_extractors
from service.embedding.registry import Registry
from service.embedding.writeback import EmbeddingWriter
from service.exchange.exporter import Exporter
from service.exchange.head_archive import HeadArchives
from service.exchange.importer import Importer
from service.inputs.keeper import Keeper
from service.learning.finetuner import Finetuner
from service.learning.learner import Learner
from service.moving.mover import Mover
from service.prediction.evaluator import Evaluator
from service.prediction.panel import PanelMemory, Panels
from service.prediction.panel_predictor import PanelPredictor
from service.prediction.predictor import HeadCache, Predictor
from service.prediction.sweeping import Sweeper, sweep_versions
from service.review.adviser import Adviser
from service.review.checker import Checker
from service.store import Caller, Store
from service.waiting.admission import Admission
from service.waiting.turns import Turns
from service.waiting.watching import Watchers

logger = logging.getLogger("headstart.engine")

# While the process of a device works for one thread, another one decodes: enough of them to keep both busy.
WAITING_FOR_DEVICE = 16


@dataclass(frozen=True)
class Engine:
    """The parts of one server process, as one caller may use them.

    `Engine.start` returns when the process is ready to answer; `of` gives its parts to a caller.
    """

    settings: Settings
    admission: Admission
    turns: Turns
    device: Device | None
    store: Store
    embedders: Embedders
    writer: EmbeddingWriter
    heads: HeadCache
    panel_memory: PanelMemory
    keeper: Keeper
    watchers: Watchers
    sweeper: Sweeper
    learner: Learner
    predictor: Predictor
    panels: Panels
    panel_predictor: PanelPredictor
    checker: Checker
    adviser: Adviser
    evaluator: Evaluator
    exporter: Exporter
    importer: Importer
    archives: HeadArchives
    finetuner: Finetuner
    mover: Mover

    @classmethod
    def start(cls, settings: Settings, device: Device | None = None) -> "Engine":
        """Open the store, load and check the extractors.

        Parameters
        ----------
        device : as for `prepare`.

        Raises
        ------
        ManifestError, DeviceError, StoreError
            The process cannot serve; the message says what to do.
        """
        extractors = load_extractors(settings, device)
        store = Store.open(settings.resolved_database_url, settings.resolved_blob_url)
        store.check()
        registry = Registry.of(settings, store)
        is_own = device is None or settings.threads
        share = min(settings.thread_count, -(-settings.core_count // settings.worker_count))
        turns = (
            Turns(settings.thread_count, share)
            if is_own
            else Turns(max(settings.core_count, WAITING_FOR_DEVICE))
        )
        embedders = Embedders(
            [embedder_of(extractor, store, settings, turns) for extractor in extractors],
            registry,
            lambda row: open_registered(row, registry, settings, turns, device),
            lambda digest: opening_other(digest, store, settings, turns, device),
            most_registered=settings.registered_extractors,
        )
        writer = EmbeddingWriter(store, max_bytes=settings.store_cache_bytes)
        heads: HeadCache = LruCache(settings.head_cache_bytes)
        panel_memory = PanelMemory(settings.stack_cache_bytes, threads=settings.thread_count)
        return cls._of(
            settings=settings,
            admission=Admission(
                most=settings.max_in_progress,
                cores=share,
                turns=turns,
                timeout_s=settings.request_timeout_s,
            ),
            turns=turns,
            device=device,
            store=store,
            embedders=embedders,
            writer=writer,
            heads=heads,
            panel_memory=panel_memory,
            keeper=Keeper(store),
            watchers=Watchers(store),
            sweeper=Sweeper(
                [
                    lambda: sum(embedder.sweep() for embedder in embedders.every_loaded()),
                    lambda: sweep_versions(store, heads, panel_memory.stacks),
                ]
            ),
        )

    def of(self, caller: Caller) -> "Engine":
        """The same process for a caller: its tenant's heads, and changes written down as its own.

        Extractors, caches, threads and connections are shared; what is cheap is made anew.
        """
        store = self.store.of(caller)
        return self._of(
            settings=self.settings,
            admission=self.admission,
            turns=self.turns,
            device=self.device,
            store=store,
            embedders=self.embedders.of(store),
            writer=self.writer.of(store),
            heads=self.heads,
            panel_memory=self.panel_memory,
            keeper=self.keeper,
            watchers=self.watchers,
            sweeper=self.sweeper,
        )

    @classmethod
    def _of(
        cls,
        *,
        settings: Settings,
        admission: Admission,
        turns: Turns,
        device: Device | None,
        store: Store,
        embedders: Embedders,
        writer: EmbeddingWriter,
        heads: HeadCache,
        panel_memory: PanelMemory,
        keeper: Keeper,
        watchers: Watchers,
        sweeper: Sweeper,
    ) -> "Engine":
        """Everything that knows a store, on this one."""
        predictor = Predictor(store, embedders, writer, heads)
        return cls(
            settings=settings,
            admission=admission,
            turns=turns,
            device=device,
            store=store,
            embedders=embedders,
            writer=writer,
            heads=heads,
            panel_memory=panel_memory,
            keeper=keeper,
            watchers=watchers,
            sweeper=sweeper,
            learner=Learner(store, embedders, keeper, keep_inputs=settings.keep_inputs),
            checker=Checker(store, embedders),
            adviser=Adviser(store, embedders),
            predictor=predictor,
            panels=Panels(store, embedders, predictor, panel_memory, max_heads=settings.max_heads),
            panel_predictor=PanelPredictor(writer, panel_memory.beside),
            evaluator=Evaluator(store, embedders, predictor, writer),
            exporter=Exporter(store, embedders, predictor),
            importer=Importer(store, embedders, keep_inputs=settings.keep_inputs),
            archives=HeadArchives(store, embedders, settings),
            finetuner=Finetuner(store),
            mover=Mover(store, embedders, keep=settings.store_cache_bytes > 0),
        )

    def close(self) -> None:
        """Finish what is queued and let go of everything."""
        self.admission.close()
        self.sweeper.close()
        self.embedders.close()
        self.panel_memory.close()
        self.keeper.close()
        self.writer.close()
        self.store.close()
