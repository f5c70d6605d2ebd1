"""Heads against labelled inputs: how good a version is on what it has not learned from.

Stores nothing but embeddings. Knows no HTTP beyond the documented errors.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from service import metrics
from service.embedding.embedders import Embedders
from service.embedding.writeback import EmbeddingWriter
from service.errors import ItemError
from service.ingest import Batch, Input
from service.inputs.intake import Counts, Intake
from service.inputs.support import arranged
from service.prediction.predictor import Predictor
from service.store import MULTI_LABEL, SINGLE_LABEL, Store, Task
from training.heads import NEGATIVE_LABEL, Evaluation, Head, evaluate


@dataclass(frozen=True)
class Evaluated:
    """What a head version makes of the usable inputs of a batch.

    `counts` tells what became of them, each label of an input counted; `in_support_set` how many inputs are
    examples of the head.
    """

    version: int
    threshold: float
    intake: Intake
    evaluation: Evaluation
    counts: Counts
    in_support_set: int
    warnings: tuple[Mapping[str, str], ...]
    timings_ms: Mapping[str, float]


class Evaluator:
    """Compares the answers of published or named head versions with the truth."""

    def __init__(
        self, store: Store, embedders: Embedders, predictor: Predictor, writer: EmbeddingWriter
    ) -> None:
        self._store = store
        self._embedders = embedders
        self._predictor = predictor
        self._writer = writer

    def evaluate(
        self, name: str, batch: Batch, *, version: int | None, threshold: float | None, skip_bad: bool
    ) -> Evaluated:
        """Evaluate the published version of a head, or one named by its number.

        Raises
        ------
        ApiError
            An input cannot be used, or has a label that the version does not know (422 `unknown_class`), and
            `skip_bad` is not set or nothing is left; or the labels of an input do not go together.
        HeadNotFoundError, VersionNotFoundError
            There is no such head or version, or none is published.
        """
        start = time.perf_counter()
        head_id, number = self._predictor.locate(name, version)
        head = self._predictor.load(head_id, number)
        embedder = self._embedders.with_digest(head.extractor_digest)
        intake = Intake.of(_checked(batch, head), embedder, skip_bad=skip_bad)
        self._writer.add(embedder.extractor.digest, intake.embedded.computed)
        score_start = time.perf_counter()
        task: Task = MULTI_LABEL if head.task == MULTI_LABEL else SINGLE_LABEL
        members, counts = intake.join((), task)
        keys, labels = arranged(members, task)
        with metrics.stage("score"):
            matrix = embedder.matrix(keys, intake.embedded.vectors)
            prediction = head.predict(matrix, threshold=threshold)
            evaluation = evaluate(prediction, [(one,) if isinstance(one, str) else one for one in labels])
        end = time.perf_counter()
        support = set(self._store.examples.support_set(head_id).keys)
        in_support_set = sum(key in support for key in keys)
        tuned_on = sum(key in embedder.extractor.tuned_on.inputs for key in keys)
        timings_s = {
            "decode": intake.embedded.decode_s,
            "embed": intake.embedded.embed_s,
            "score": end - score_start,
            "total": end - start,
        }
        return Evaluated(
            version=number,
            threshold=head.unknown_threshold if threshold is None else threshold,
            intake=intake,
            evaluation=evaluation,
            counts=counts,
            in_support_set=in_support_set,
            warnings=tuple(_warnings(evaluation, in_support_set, tuned_on)),
            timings_ms={stage: round(seconds * 1e3, 3) for stage, seconds in timings_s.items()},
        )


def _checked(batch: Batch, head: Head) -> Batch:
    """The batch without the inputs that have a label the head does not know."""
    rejected = {item.index: error for item in batch.inputs if (error := _problem(item, head))}
    return replace(
        batch,
        inputs=tuple(item for item in batch.inputs if item.index not in rejected),
        rejected=tuple(sorted([*batch.rejected, *rejected.values()], key=lambda error: error.index)),
    )


def _problem(item: Input, head: Head) -> ItemError | None:
    known = {*head.classes, NEGATIVE_LABEL}
    unknown = [label for label in item.labels if label not in known]
    if not unknown:
        return None
    message = f"the head has no class {unknown[0]!r}"
    return ItemError(item.index, 422, "unknown_class", message, item.id, unknown[0])


def _warnings(evaluation: Evaluation, in_support_set: int, tuned_on: int) -> Iterator[dict[str, str]]:
    if in_support_set:
        message = f"Also examples of this head, so they say little of new inputs: {in_support_set}."
        yield {"code": "in_support_set", "message": message}
    if tuned_on:
        message = f"The extractor was trained on some, so they say little of new inputs: {tuned_on}."
        yield {"code": "tuned_on_these_inputs", "message": message}
    absent = [row["label"] for row in evaluation.per_class if not row["support"]]
    if absent:
        message = f"{len(absent)} classes have no input here, so their recall is unknown: {absent[0]!r}, ..."
        yield {"code": "class_not_evaluated", "message": message}
