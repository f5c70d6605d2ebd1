"""Everything a server process holds, built once from the settings: store, extractors, learner, predictor.

Knows when a process is ready.
"""

import logging
from dataclasses import dataclass, replace
from functools import cached_property

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
from service.waiting.gathering import Gathering
from service.waiting.turns import Turns
from service.waiting.watching import Watchers

logger = logging.getLogger("headstart.engine")

# While the process of a device works for one thread, another one decodes: enough of them to keep both busy.
WAITING_FOR_DEVICE = 16
# Small requests that share a turn of a core. Of a device, each has its own.
BRIEF_TOGETHER = 6


@dataclass(eq=False)
class Engine:
    """The parts of one server process, as one caller may use them.

    `Engine.start` returns when the process is ready to answer; `of` gives its parts to a caller. What is
    made of them is made when it is first asked for: a prediction needs little of it, and each request is a
    caller.
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
        gathering = Gathering(turns, BRIEF_TOGETHER if is_own else 1)
        embedders = Embedders(
            [embedder_of(extractor, store, settings, gathering) for extractor in extractors],
            store,
            lambda row: open_registered(row, registry, settings, gathering, device),
            lambda digest: opening_other(digest, store, settings, gathering, device),
            most_registered=settings.registered_extractors,
        )
        writer = EmbeddingWriter(store, max_bytes=settings.store_cache_bytes)
        heads: HeadCache = LruCache(settings.head_cache_bytes)
        panel_memory = PanelMemory(settings.stack_cache_bytes, threads=settings.thread_count)
        return cls(
            settings=settings,
            admission=Admission(
                most=settings.max_in_progress,
                gathering=gathering,
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

        Extractors, caches, threads and connections are shared.
        """
        store = self.store.of(caller)
        return replace(self, store=store, embedders=self.embedders.of(store), writer=self.writer.of(store))

    @cached_property
    def predictor(self) -> Predictor:
        return Predictor(self.store, self.embedders, self.writer, self.heads)

    @cached_property
    def learner(self) -> Learner:
        return Learner(self.store, self.embedders, self.keeper, keep_inputs=self.settings.keep_inputs)

    @cached_property
    def checker(self) -> Checker:
        return Checker(self.store, self.embedders)

    @cached_property
    def adviser(self) -> Adviser:
        return Adviser(self.store, self.embedders)

    @cached_property
    def panels(self) -> Panels:
        most = self.settings.max_heads
        return Panels(self.store, self.embedders, self.predictor, self.panel_memory, max_heads=most)

    @cached_property
    def panel_predictor(self) -> PanelPredictor:
        return PanelPredictor(self.writer, self.panel_memory.beside)

    @cached_property
    def evaluator(self) -> Evaluator:
        return Evaluator(self.store, self.embedders, self.predictor, self.writer)

    @cached_property
    def exporter(self) -> Exporter:
        return Exporter(self.store, self.embedders, self.predictor)

    @cached_property
    def importer(self) -> Importer:
        return Importer(self.store, self.embedders, keep_inputs=self.settings.keep_inputs)

    @cached_property
    def archives(self) -> HeadArchives:
        return HeadArchives(self.store, self.embedders, self.settings)

    @cached_property
    def finetuner(self) -> Finetuner:
        return Finetuner(self.store)

    @cached_property
    def mover(self) -> Mover:
        return Mover(self.store, self.embedders, keep=self.settings.store_cache_bytes > 0)

    def close(self) -> None:
        """Finish what is queued and let go of everything."""
        self.admission.close()
        self.sweeper.close()
        self.embedders.close()
        self.panel_memory.close()
        self.keeper.close()
        self.writer.close()
        self.store.close()
