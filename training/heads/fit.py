"""From a support set to a head: the one entry point of fitting. Knows no file, no database and no HTTP."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from training import __version__
from training.heads.folds import Folds, deal
from training.heads.head import Head
from training.heads.options import FitOptions
from training.heads.report import make_report
from training.heads.selection import LogisticSelection, Selected, select_nearest_mean
from training.heads.support import SupportSet, gather
from training.heads.transform import TRANSFORM
from training.heads.typicality import Typicality, fit_typicality

DEFAULT_OPTIONS = FitOptions()


def fit_head(
    embeddings: object,
    labels: Sequence[str],
    *,
    extractor_digest: str,
    options: FitOptions = DEFAULT_OPTIONS,
    parent_version: int | None = None,
) -> Head:
    """Fit, cross-validate and calibrate a head.

    The result depends on the set of examples, the options and nothing else: not on the order of the examples,
    and renaming the labels renames the classes.

    Parameters
    ----------
    embeddings : (n, d) float32, finite
    labels : n non-empty strings, at least two different ones
    extractor_digest : digest of the extractor that made the embeddings
    options : how to fit
    parent_version : the version of the head that this one replaces

    Raises
    ------
    NoExamplesError
        If there are no examples.
    TooFewClassesError
        If there are fewer than two classes.
    SupportSetError
        If a shape, type or value cannot be used.
    """
    clock = _Clock()
    support = gather(embeddings, labels, options.seed)
    clock.lap("prepare")
    folds = deal(support)
    selected = _select(support, folds, options)
    clock.lap("fit")
    typicality = fit_typicality(support, folds)
    clock.lap("typicality")
    threshold = options.unknown_rate if options.threshold is None else options.threshold
    report = make_report(
        support,
        selected,
        method=options.method,
        folds=folds.count,
        unknown_threshold=threshold,
        timings_ms=clock.laps(),
    )
    order = np.argsort(np.array(support.labels))
    return Head(
        classes=tuple(support.labels[index] for index in order),
        dim=support.features.shape[1],
        extractor_digest=extractor_digest,
        transform=TRANSFORM,
        weights=selected.weights[order],
        bias=selected.bias[order],
        temperature=selected.temperature,
        typicality=Typicality(
            typicality.means[order], typicality.directions, typicality.knots, typicality.values
        ),
        unknown_threshold=threshold,
        report=report,
        parent_version=parent_version,
        library_version=__version__,
    )


def _select(support: SupportSet, folds: Folds, options: FitOptions) -> Selected:
    if options.method == "nearest_mean":
        return select_nearest_mean(support, folds)
    return LogisticSelection(support, folds).run(options.regularisation)


class _Clock:
    """Milliseconds between laps."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = perf_counter()
        self._laps[name] = round(1000 * (now - self._last), 3)
        self._last = now

    def laps(self) -> dict[str, float]:
        """The laps so far and their total."""
        return {**self._laps, "total": round(1000 * (self._last - self._start), 3)}
