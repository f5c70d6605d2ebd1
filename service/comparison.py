"""A new version on another extractor against what is there: on the same held-out examples if possible.

Knows when such a comparison says nothing. Knows no commit and no HTTP.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.embedders import Embedders
from service.store import ExtractorUnavailableError, HeadRow, RevisionConflictError, Store
from service.tuning import is_tuned_on
from training.heads import FitOptions, Head
from training.heads.pairing import Paired, pair_extractors

Rows = npt.NDArray[np.float32]

FIGURES = ("accuracy", "accuracy_low", "accuracy_high", "held_out")


@dataclass(frozen=True)
class Comparison:
    """Held-out quality before and after.

    Attributes
    ----------
    before, after : accuracy and its interval, from the reports of the published version, if any, and the new
    paired : both extractors on the same examples, if that can be had
    better : whether the new one is better beyond doubt; None if that cannot be told
    """

    before: Mapping[str, Any] | None
    after: Mapping[str, Any]
    paired: Paired | None
    better: bool | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "before": self.before,
            "after": self.after,
            "paired": None if self.paired is None else self.paired.as_dict(),
            "better": self.better,
        }


def compare(
    store: Store,
    embedders: Embedders,
    current: HeadRow,
    trained: Head,
    *,
    rows: Rows,
    keys: Sequence[str],
    labels: Sequence[str] | Sequence[Collection[str]],
    options: FitOptions,
) -> Comparison:
    """Compare a head, fitted on the target extractor, with what the head has now.

    A fit on the present extractor is judged on the same examples: the published version may have been
    trained on fewer. Where that extractor is not there, or one of the two was fine-tuned on examples of this
    head, only the reports are left, and only intervals apart from each other count.

    Parameters
    ----------
    rows, keys, labels : what `trained` was fitted on: embeddings, (n, dim) float32, inputs and what they are.

    Raises
    ------
    RevisionConflictError
        An example was removed while its embedding was read.
    """
    after = _figures(trained.report.as_dict())
    before = None
    if current.published_version is not None:
        before = _figures(store.versions.get(current.name, current.published_version).report)
    is_tuned = _is_tuned_on(store, trained.extractor_digest, current.name)
    paired = None
    if not is_tuned and not _is_tuned_on(store, current.extractor_digest, current.name):
        paired = _paired(embedders, current, rows, keys, labels, options)
    better = None
    if paired is not None:
        better = paired.is_better
    elif not is_tuned and before and None not in (before["accuracy_high"], after["accuracy_low"]):
        better = bool(after["accuracy_low"] > before["accuracy_high"])
    return Comparison(before, after, paired, better)


def _paired(
    embedders: Embedders,
    current: HeadRow,
    rows: Rows,
    keys: Sequence[str],
    labels: Sequence[str] | Sequence[Collection[str]],
    options: FitOptions,
) -> Paired | None:
    try:
        present = embedders.find(current.extractor_digest)
    except ExtractorUnavailableError:
        present = None
    if present is None:
        return None
    vectors = present.cached(keys)
    if any(key not in vectors for key in keys):
        raise RevisionConflictError("an example was removed while its embedding was read")
    return pair_extractors(present.matrix(keys, vectors), rows, labels, options)


def _is_tuned_on(store: Store, digest: str, name: str) -> bool:
    row = store.extractors.with_digest(digest)
    return is_tuned_on(None if row is None else row.origin, name)


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    return {figure: report.get(figure) for figure in FIGURES}
