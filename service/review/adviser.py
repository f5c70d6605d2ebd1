"""Advice on transfer for a head, from cached rows: nothing is embedded, nothing is changed.

Knows what the head and its extractor are. Knows neither how advice is found nor HTTP beyond the documented
errors.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from service import metrics
from service.devices.sessions import CPU
from service.embedding.embedders import Embedders
from service.embedding.extractor import Extractor
from service.review.support_rows import SupportRows, read_rows
from service.store import HeadRow, Store
from training.advise import Advice, SourceKnowledge, advise

TIMED = 5


@dataclass(frozen=True, eq=False)
class Advised:
    """Advice for a head.

    Attributes
    ----------
    extractor_name : of the head's extractor
    inputs, kept : inputs of the support set, and those among them whose bytes are kept
    """

    head: HeadRow
    extractor_name: str
    advice: Advice
    inputs: int
    kept: int
    timings_ms: Mapping[str, float]


class Adviser:
    """Advises on support sets; safe to share between threads."""

    def __init__(self, store: Store, embedders: Embedders) -> None:
        self._store = store
        self._embedders = embedders

    def advise(self, name: str) -> Advised:
        """Advise on the support set of a head as it is now.

        Raises
        ------
        HeadNotFoundError
        SupportSetError
            It has no examples, or fewer than two classes.
        ApiError
            409: the head's extractor is not loaded, or examples were removed at every attempt.
        """
        start = time.perf_counter()
        found = read_rows(self._store, self._embedders, name)
        kept = self._store.inputs.of(found.head.id)
        loaded = time.perf_counter()
        with metrics.stage("advise"):
            advice = _advise(found)
        done = time.perf_counter()
        timings_s = {"load": loaded - start, "advise": done - loaded, "total": done - start}
        return Advised(
            head=found.head,
            extractor_name=found.embedder.extractor.name,
            advice=advice,
            inputs=len(found.keys),
            kept=sum(key in kept for key in found.keys),
            timings_ms={part: round(seconds * 1e3, 3) for part, seconds in timings_s.items()},
        )


def _advise(found: SupportRows) -> Advice:
    extractor = found.embedder.extractor
    return advise(
        found.matrix,
        found.labels,
        layer_dims=extractor.layer_dims,
        extractor_digest=extractor.digest,
        source=SourceKnowledge.load(extractor.folder, extractor.manifest),
        task=found.support.task,
        embed_ms=_embed_ms(extractor),
        unseen=found.unseen,
    )


def _embed_ms(extractor: Extractor) -> float | None:
    """Milliseconds of one image on one core; None where another device embeds."""
    if extractor.provider != CPU:
        return None
    shape = extractor.manifest.input
    image = np.zeros((shape.height, shape.width, 3), np.uint8)
    laps = []
    for _ in range(TIMED):
        start = time.perf_counter()
        extractor.embed([image])
        laps.append(1e3 * (time.perf_counter() - start))
    return median(laps)
