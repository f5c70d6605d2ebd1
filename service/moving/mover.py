"""Moving a head to another extractor: embed, fit, compare, and switch only if that is wanted and was shown.

The head serves as before until one transaction has changed all of it. Knows no HTTP beyond the documented
errors.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from service import metrics
from service.embedding.embedder import Embedder
from service.embedding.embedders import Embedders
from service.errors import ApiError
from service.inputs.support import Member, arranged, of_classes
from service.learning.layers import require_layers
from service.learning.learner import MAX_ATTEMPTS, conflict
from service.learning.train_options import TrainOptions
from service.moving.adoption import commit_version, new_version
from service.moving.comparison import Comparison, compare
from service.moving.reembedding import reembed
from service.store import HeadRow, RevisionConflictError, Store
from training.heads import Head, fit_head

Switch = Literal["better", "always", "never"]


@dataclass(frozen=True)
class Moved:
    """The outcome of a move.

    Attributes
    ----------
    before, after : the head as it was and as it is.
    version, trained : the new version, on the other extractor.
    extractor : name and digest of that extractor.
    switched : whether the head is on it now, and the version published.
    inputs, embedded : inputs of the head, and those that no cache had the embedding of.
    """

    before: HeadRow
    after: HeadRow
    version: int
    trained: Head
    extractor: tuple[str, str]
    switched: bool
    inputs: int
    embedded: int
    comparison: Comparison
    timings_ms: Mapping[str, float]


class Mover:
    """Moves heads; safe to share between threads.

    Parameters
    ----------
    keep : whether embeddings are stored that no example refers to: those of a head that does not switch.
    """

    def __init__(self, store: Store, embedders: Embedders, *, keep: bool) -> None:
        self._store = store
        self._embedders = embedders
        self._keep = keep

    def move(self, name: str, *, extractor: str, switch: Switch, train: TrainOptions) -> Moved:
        """Fit a version of a head on another extractor, and take the head there.

        Parameters
        ----------
        switch : "better": only if the held-out answers are better beyond doubt, by a paired interval.
        train : options of the fit; `publish` is not looked at.

        Raises
        ------
        ApiError
            404: no such extractor. 409: the head is there already, inputs were not kept, or others changed
            the head at every attempt.
        HeadNotFoundError, SupportSetError, StoreUnavailableError
        """
        start = time.perf_counter()
        self._store.heads.get(name)
        target = self._embedders.named(extractor)
        require_layers(target.extractor, train.fit)
        for _ in range(MAX_ATTEMPTS):
            try:
                return self._attempt(name, target, switch, train, start)
            except RevisionConflictError:
                continue
        raise conflict()

    def _attempt(
        self, name: str, target: Embedder, switch: Switch, train: TrainOptions, start: float
    ) -> Moved:
        head = self._store.heads.get(name)
        support = self._store.examples.support_set(head.id)
        if support.revision != head.revision:
            raise RevisionConflictError("the head was changed while it was read")
        if support.extractor_digest == target.extractor.digest:
            raise ApiError(
                409,
                "same_extractor",
                f"head {name!r} is on the extractor {target.extractor.name!r} already",
                param="extractor",
            )
        reembedded = reembed(self._store, target, support, keep=self._keep)
        embedded = time.perf_counter()
        members = [Member(key, label) for key, label in zip(support.keys, support.labels, strict=True)]
        keys, labels = arranged(of_classes(members, train.classes), support.task)
        rows = target.matrix(keys, reembedded.vectors)
        newest = self._store.versions.newest(head.id, head.extractor_digest)
        options = train.after(newest, target.extractor.layer_dims).of_task(support.task)
        with metrics.stage("fit"):
            trained = fit_head(
                rows,
                labels,
                extractor_digest=target.extractor.digest,
                options=options.fit,
                layer_dims=target.extractor.layer_dims,
                unseen=target.extractor.tuned_on.unseen(keys),
            )
        fitted = time.perf_counter()
        comparison = compare(
            self._store,
            self._embedders,
            head,
            trained,
            extractor=target.extractor,
            rows=rows,
            keys=keys,
            labels=labels,
            options=options.fit,
        )
        compared = time.perf_counter()
        version = new_version(
            trained,
            head,
            publish=switch == "always" or (switch == "better" and comparison.better is True),
            options={**options.as_dict(), "moved_from": head.extractor_name},
            warnings=trained.report.warnings,
        )
        committed = commit_version(self._store, target, head, version, reembedded.vectors)
        timings_s = {
            "embed": embedded - start,
            "fit": fitted - embedded,
            "compare": compared - fitted,
            "store": time.perf_counter() - compared,
            "total": time.perf_counter() - start,
        }
        return Moved(
            before=head,
            after=committed.head,
            version=committed.head.last_version,
            trained=trained,
            extractor=(target.extractor.name, target.extractor.digest),
            switched=version.publish,
            inputs=len(reembedded.vectors),
            embedded=reembedded.embedded,
            comparison=comparison,
            timings_ms={stage: round(seconds * 1e3, 3) for stage, seconds in timings_s.items()},
        )
