"""A new version on another extractor against what is there: on the same held-out examples if possible.

Knows when such a comparison says nothing. Knows no commit and no HTTP.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from service.embedding.embedder import Embedder
from service.embedding.embedders import Embedders
from service.embedding.extractor import Extractor
from service.learning.layers import layers_in
from service.store import ExtractorUnavailableError, HeadRow, RevisionConflictError, Store
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
    extractor: Extractor,
    rows: npt.NDArray[np.float32],
    keys: Sequence[str],
    labels: Sequence[str] | Sequence[Collection[str]],
    options: FitOptions,
) -> Comparison:
    """Compare a head, fitted on the target extractor, with what the head has now.

    A fit on the present extractor is judged on the same examples: the published version may have been
    trained on fewer. Only examples that neither extractor was trained on count. Where there are none, or the
    present extractor is not there, only the reports are left, and only intervals apart from each other count.

    Parameters
    ----------
    extractor : the target.
    rows, keys, labels : what `trained` was fitted on: its rows, (n, width) float32, inputs and what they are.

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
    paired = None
    present = _present(embedders, current)
    if present is not None:
        now = Rows(_rows_by(present, keys), replace(options, layers=layers), present.extractor.layer_dims)
        then = Rows(rows, options, extractor.layer_dims)
        tuned_on = present.extractor.tuned_on | extractor.tuned_on
        paired = pair_extractors(now, then, labels, unseen=tuned_on.unseen(keys))
    better = None
    if paired is not None:
        better = paired.is_better
    elif before and None not in (before["accuracy_high"], after["accuracy_low"]):
        better = bool(after["accuracy_low"] > before["accuracy_high"])
    return Comparison(before, after, paired, better)


def _present(embedders: Embedders, current: HeadRow) -> Embedder | None:
    """The embedder of the present extractor; None if that is not there."""
    try:
        return embedders.find(current.extractor_digest)
    except ExtractorUnavailableError:
        return None


def _rows_by(embedder: Embedder, keys: Sequence[str]) -> npt.NDArray[np.float32]:
    vectors = embedder.cached(keys)
    if any(key not in vectors for key in keys):
        raise RevisionConflictError("an example was removed while its embedding was read")
    return embedder.matrix(keys, vectors)


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    return {figure: report.get(figure) for figure in FIGURES}
