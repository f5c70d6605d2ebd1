"""A new version on another extractor against what is there: on the same held-out examples if possible.

Knows when such a comparison says nothing. Knows no commit and no HTTP.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from service.embedders import Embedders
from service.layers import layers_in
from service.store import ExtractorUnavailableError, HeadRow, RevisionConflictError, Store
from service.tuning import is_tuned_on
from training.heads import FitOptions, Head
from training.heads.layers import EMBEDDING
from training.heads.pairing import Paired, Rows, pair_extractors

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
    rows: npt.NDArray[np.float32],
    keys: Sequence[str],
    labels: Sequence[str] | Sequence[Collection[str]],
    options: FitOptions,
    layer_dims: Mapping[str, int],
) -> Comparison:
    """Compare a head, fitted on the target extractor, with what the head has now.

    A fit on the present extractor is judged on the same examples: the published version may have been
    trained on fewer. Where that extractor is not there, or one of the two was fine-tuned on examples of this
    head, only the reports are left, and only intervals apart from each other count.

    Parameters
    ----------
    rows, keys, labels : what `trained` was fitted on: rows, (n, width) float32, inputs and what they are.
    layer_dims : length of each layer of these rows.

    Raises
    ------
    RevisionConflictError
        An example was removed while its embedding was read.
    """
    after = _figures(trained.report.as_dict())
    before: dict[str, Any] | None = None
    layers: tuple[str, ...] = (EMBEDDING,)
    if current.published_version is not None:
        version = store.versions.get(current.name, current.published_version)
        before, layers = _figures(version.report), layers_in(version)
    is_tuned = _is_tuned_on(store, trained.extractor_digest, current.name)
    paired = None
    if not is_tuned and not _is_tuned_on(store, current.extractor_digest, current.name):
        present = _rows_now(embedders, current, keys, replace(options, layers=layers))
        if present is not None:
            paired = pair_extractors(present, Rows(rows, options, layer_dims), labels)
    better = None
    if paired is not None:
        better = paired.is_better
    elif not is_tuned and before and None not in (before["accuracy_high"], after["accuracy_low"]):
        better = bool(after["accuracy_low"] > before["accuracy_high"])
    return Comparison(before, after, paired, better)


def _rows_now(
    embedders: Embedders, current: HeadRow, keys: Sequence[str], options: FitOptions
) -> Rows | None:
    """The rows of the present extractor, to be fitted with its layers; None if it is not there."""
    try:
        present = embedders.find(current.extractor_digest)
    except ExtractorUnavailableError:
        present = None
    if present is None:
        return None
    vectors = present.cached(keys)
    if any(key not in vectors for key in keys):
        raise RevisionConflictError("an example was removed while its embedding was read")
    return Rows(present.matrix(keys, vectors), options, present.extractor.layer_dims)


def _is_tuned_on(store: Store, digest: str, name: str) -> bool:
    row = store.extractors.with_digest(digest)
    return is_tuned_on(None if row is None else row.origin, name)


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    return {figure: report.get(figure) for figure in FIGURES}
