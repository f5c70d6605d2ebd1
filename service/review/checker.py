"""Data checks of a head's support set, from cached embeddings: nothing is embedded, nothing is changed.

Knows which examples the findings belong to. Knows neither how they are found nor HTTP beyond the documented
errors.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service import metrics
from service.embedding.embedders import Embedders
from service.learning.layers import layers_in
from service.review.support_rows import read_rows
from service.store import HeadRow, Store, SupportSet
from training.heads import Findings, FitOptions, check_examples
from training.heads.layers import EMBEDDING


@dataclass(frozen=True)
class Checked:
    """What was found in the support set of a head.

    Attributes
    ----------
    rows : the positions in `support` of each input that `findings` speaks of; several labels are several rows
    tuned_on : examples that the extractor was trained on, which are therefore no label errors and no outliers
    """

    head: str
    published_version: int | None
    support: SupportSet
    rows: Sequence[Sequence[int]]
    tuned_on: int
    findings: Findings
    timings_ms: Mapping[str, float]


class Checker:
    """Checks support sets; safe to share between threads."""

    def __init__(self, store: Store, embedders: Embedders) -> None:
        self._store = store
        self._embedders = embedders

    def check(self, name: str) -> Checked:
        """Check the support set of a head as it is now.

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
        head, support = found.head, found.support
        loaded = time.perf_counter()
        with metrics.stage("check"):
            findings = check_examples(
                found.matrix,
                found.labels,
                options=FitOptions(task=support.task, layers=self._layers(name, head)),
                layer_dims=found.embedder.extractor.layer_dims,
                unseen=found.unseen,
            )
        done = time.perf_counter()
        timings_s = {"load": loaded - start, "check": done - loaded, "total": done - start}
        return Checked(
            head=name,
            published_version=head.published_version,
            support=support,
            rows=_rows_of(found.keys, support),
            tuned_on=sum(key in found.embedder.extractor.tuned_on.inputs for key in support.keys),
            findings=findings,
            timings_ms={part: round(seconds * 1e3, 3) for part, seconds in timings_s.items()},
        )

    def _layers(self, name: str, head: HeadRow) -> tuple[str, ...]:
        """Those that the published version uses."""
        if head.published_version is None:
            return (EMBEDDING,)
        return layers_in(self._store.versions.get(name, head.published_version))


def _rows_of(keys: Sequence[str], support: SupportSet) -> Sequence[Sequence[int]]:
    """The positions of the labels of each input, in the order of the inputs."""
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(support.keys):
        rows.setdefault(key, []).append(row)
    return [rows[key] for key in keys]
