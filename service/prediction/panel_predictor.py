"""Panels answer batches: every input is embedded once for each extractor, whatever the number of heads.

Knows no HTTP beyond the documented errors.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from service import metrics
from service.embedding.embedder import Embedder
from service.embedding.writeback import EmbeddingWriter
from service.errors import ApiError, ItemError
from service.ingest import Batch, Input
from service.inputs.intake import Intake
from service.prediction.panel import Panel
from service.prediction.panel_answers import head_answers
from training.heads import StackPrediction


@dataclass(frozen=True)
class PanelPredicted:
    """What a panel says of the usable inputs of a batch.

    Attributes
    ----------
    inputs, ids : the inputs that can be used, in order, and the id of each: the caller's, or its sha256.
    answers : for each input one for each head, JSON-ready.
    rejected : the inputs that cannot be used.
    """

    inputs: tuple[Input, ...]
    ids: tuple[str, ...]
    answers: tuple[list[dict[str, Any]], ...]
    rejected: tuple[ItemError, ...]
    timings_ms: Mapping[str, float]

    def rendered(self) -> list[dict[str, Any]]:
        """The inputs with their answers, JSON-ready."""
        return [
            {"id": id, "index": item.index, "heads": heads}
            for item, id, heads in zip(self.inputs, self.ids, self.answers, strict=True)
        ]


class PanelPredictor:
    """Safe to share between threads.

    Parameters
    ----------
    writer : what stores new embeddings.
    beside : threads beside those that call, which share the work on one input with them.
    """

    def __init__(self, writer: EmbeddingWriter, beside: Executor) -> None:
        self._writer = writer
        self._beside = beside

    def predict(
        self, panel: Panel, batch: Batch, *, threshold: float | None, top_k: int, skip_bad: bool
    ) -> PanelPredicted:
        """Ask a panel of a batch.

        Raises
        ------
        ApiError
            As `Intake.of`. An input that one extractor cannot use is not used by any.
        """
        start = time.perf_counter()
        intakes = self._embed(panel.embedders, batch, skip_bad)
        return self._answer(panel, intakes, start, threshold, top_k)

    def predict_while(
        self,
        seat: Callable[[], Panel],
        expected: tuple[Embedder, ...],
        batch: Batch,
        *,
        threshold: float | None,
        top_k: int,
        skip_bad: bool,
    ) -> tuple[Panel, PanelPredicted]:
        """As `predict`, of a panel that is seated meanwhile.

        Parameters
        ----------
        seat : gives the panel; its errors come before those of the batch.
        expected : the embedders that it most likely has.
        """
        start = time.perf_counter()
        seating = self._beside.submit(seat)
        try:
            intakes = self._embed(expected, batch, skip_bad)
        except ApiError:
            seating.result()
            raise
        panel = seating.result()
        if panel.embedders != expected:
            intakes = self._embed(panel.embedders, batch, skip_bad)
        return panel, self._answer(panel, intakes, start, threshold, top_k)

    def _embed(self, embedders: Sequence[Embedder], batch: Batch, skip_bad: bool) -> list[Intake]:
        """The inputs that all extractors can use are those of the last intake."""
        intakes: list[Intake] = []
        left = batch
        for embedder in embedders:
            intake = Intake.of(left, embedder, skip_bad=skip_bad)
            self._writer.add(embedder.extractor.digest, intake.embedded.computed)
            left = replace(batch, inputs=intake.inputs, rejected=intake.rejected)
            intakes.append(intake)
        return intakes

    def _answer(
        self, panel: Panel, intakes: Sequence[Intake], start: float, threshold: float | None, top_k: int
    ) -> PanelPredicted:
        last = intakes[-1]
        keys = last.keys
        score_start = time.perf_counter()
        with metrics.stage("score"):
            answers = tuple(
                _counted(head_answers(panel, predicted, top_k), predicted)
                for key in keys
                for predicted in [
                    panel.predict([one.embedded.vectors[key] for one in intakes], threshold, self._beside)
                ]
            )
        end = time.perf_counter()
        timings_s = {
            "decode": sum(one.embedded.decode_s for one in intakes),
            "embed": sum(one.embedded.embed_s for one in intakes),
            "score": end - score_start,
            "total": end - start,
        }
        return PanelPredicted(
            inputs=last.inputs,
            ids=tuple(item.id or key for item, key in zip(last.inputs, keys, strict=True)),
            answers=answers,
            rejected=last.rejected,
            timings_ms={name: round(seconds * 1e3, 3) for name, seconds in timings_s.items()},
        )


def _counted(answers: list[dict[str, Any]], predicted: list[StackPrediction]) -> list[dict[str, Any]]:
    unknown = sum(int(one.unknown.sum()) for one in predicted)
    metrics.count_predictions(len(answers), unknown)
    return answers
