"""Predictions: a head version, read once and kept, scores embeddings.

Which version is published is read for each request; what a version is never changes. Knows no HTTP beyond the
documented errors.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service import metrics
from service.cache import LruCache
from service.embedding.embedders import Embedders
from service.embedding.writeback import EmbeddingWriter
from service.ingest import Batch
from service.inputs.intake import Intake
from service.store import Store, VersionNotFoundError
from training.heads import Head, Prediction, load_head

HeadCache = LruCache[tuple[int, int], Head]
FILES_AT_ONCE = 64
# In memory, a head takes so much beside the numbers of its file: its report and its arrays.
ENTRY_BYTES = 12 * 1024


@dataclass(frozen=True)
class Predicted:
    """What a head version says of the usable inputs of a batch."""

    version: int
    head: Head
    intake: Intake
    prediction: Prediction
    timings_ms: Mapping[str, float]


class Predictor:
    """Scores inputs with published or named head versions.

    Parameters
    ----------
    heads : where versions are kept, by head id and number; one for all callers of a process.
    """

    def __init__(self, store: Store, embedders: Embedders, writer: EmbeddingWriter, heads: HeadCache) -> None:
        self._store = store
        self._embedders = embedders
        self._writer = writer
        self._heads = heads

    def predict(
        self, name: str, batch: Batch, *, version: int | None, threshold: float | None, skip_bad: bool
    ) -> Predicted:
        """Predict a batch with the published version of a head, or with one named by its number."""
        number, head = self.find(name, version)
        return self.answer(number, head, batch, threshold=threshold, skip_bad=skip_bad)

    def find(self, name: str, version: int | None) -> tuple[int, Head]:
        """The published version of a head, or the one of that number, and its number.

        Raises
        ------
        HeadNotFoundError, VersionNotFoundError
        """
        head_id, number = self.locate(name, version)
        if version is not None and not self._store.versions.existing([(head_id, number)]):
            # It may be in memory still.
            raise VersionNotFoundError(f"the head {name!r} has no version {number}")
        return number, self.load(head_id, number)

    def answer(
        self, number: int, head: Head, batch: Batch, *, threshold: float | None, skip_bad: bool
    ) -> Predicted:
        """Predict a batch with a head version that was read before."""
        start = time.perf_counter()
        embedder = self._embedders.with_digest(head.extractor_digest)
        intake = Intake.of(batch, embedder, skip_bad=skip_bad)
        score_start = time.perf_counter()
        with metrics.stage("score"):
            prediction = head.predict(intake.matrix(), threshold=threshold)
        end = time.perf_counter()
        self._writer.add(embedder.extractor.digest, intake.embedded.computed)
        metrics.count_predictions(len(prediction.unknown), int(prediction.unknown.sum()))
        timings_s = {
            "decode": intake.embedded.decode_s,
            "embed": intake.embedded.embed_s,
            "score": end - score_start,
            "total": end - start,
        }
        timings_ms = {name: round(seconds * 1e3, 3) for name, seconds in timings_s.items()}
        return Predicted(number, head, intake, prediction, timings_ms)

    def locate(self, name: str, version: int | None) -> tuple[int, int]:
        """The id of a head and the number of a version: the published one without a number.

        A version that is asked for by its number need not exist.

        Raises
        ------
        HeadNotFoundError, VersionNotFoundError
            There is no such head, or none of its versions is published.
        """
        if version is not None:
            return self._store.heads.get(name).id, version
        published = self._store.heads.published(name)
        return published.head_id, published.number

    def load(self, head_id: int, number: int) -> Head:
        """A head version.

        Raises
        ------
        VersionNotFoundError
            There is no such version.
        """
        head = self._heads.get((head_id, number))
        if head is None:
            head = self._keep((head_id, number), self._store.versions.file(head_id, number))
        return head

    def load_all(self, versions: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Head]:
        """Head versions by head id and number; those that are gone are left out."""
        found = {key: head for key in versions if (head := self._heads.get(key)) is not None}
        absent = [key for key in versions if key not in found]
        for start in range(0, len(absent), FILES_AT_ONCE):
            files = self._store.versions.files(absent[start : start + FILES_AT_ONCE])
            found |= {key: self._keep(key, data) for key, data in files.items()}
        return found

    def _keep(self, key: tuple[int, int], data: bytes) -> Head:
        head = load_head(data)
        self._heads.put(key, head, len(data) + ENTRY_BYTES)
        return head
