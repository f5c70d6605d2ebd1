"""From a support set to a head: the one entry point of fitting. Knows no file, no database and no HTTP."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np

from training import __version__
from training.heads.calibration import Calibration, SlopePrior, Usual, fit_sigmoids, fit_softmax
from training.heads.head import Head
from training.heads.options import FitOptions
from training.heads.report import make_report
from training.heads.ridge import Ridge
from training.heads.selection import select
from training.heads.support import SupportSet, gather
from training.heads.typicality import Typicality, fit_typicality

DEFAULT_OPTIONS = FitOptions()
# log(slope * margin of the fit) that calibrates unseen images best: 2.6 on cats_dogs, 2.9 on blood_cells, 0.8
# on ham10000, whatever the number of examples and the penalty (docs/experiments.md).
USUAL_LOG_SLOPE, SLOPE_DEVIATION = 2.1, 0.8
SMALLEST_MARGIN = 1e-6
FEWEST_MOVES = 5.0  # that make up a margin which tells more than the shares of the labels

CALIBRATION_SCORES, FEWEST_CALIBRATED = 65_536, 256  # scores, and examples, that are enough to calibrate with


def fit_head(
    embeddings: object,
    labels: Sequence[str] | Sequence[Collection[str]],
    *,
    extractor_digest: str,
    options: FitOptions = DEFAULT_OPTIONS,
    parent_version: int | None = None,
) -> Head:
    """Fit, choose, calibrate and evaluate a head.

    The result depends on the set of examples, the options and nothing else: not on the order of the examples,
    and renaming the labels renames the classes.

    Parameters
    ----------
    embeddings : (n, d) float32, finite
    labels : n non-empty strings, at least two different ones; `__none__` marks an example of no class. For a
        multi-label head n collections of strings; an empty one marks an example of no class
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
    support = gather(embeddings, labels, options.task, options.seed)
    clock.lap("prepare")
    selected = select(support, options)
    calibration = calibrate(support, selected.fit)
    clock.lap("fit")
    typicality = fit_typicality(support, selected)
    clock.lap("typicality")
    threshold = options.unknown_rate if options.threshold is None else options.threshold
    report = make_report(support, selected, calibration, unknown_threshold=threshold)
    clock.lap("report")
    order = _alphabetical(support)
    return Head(
        task=support.task,
        classes=tuple(sorted(support.labels)),
        negatives=support.negatives,
        dim=support.dimensions,
        extractor_digest=extractor_digest,
        transform=selected.choice.transform,
        weights=selected.fit.weights[order],
        bias=selected.fit.bias[order],
        calibration=replace(calibration, slope=calibration.slope[order], offset=calibration.offset[order]),
        typicality=_in_order(typicality, order),
        unknown_threshold=threshold,
        report=replace(report, timings_ms=clock.laps()),
        parent_version=parent_version,
        library_version=__version__,
    )


def calibrate(support: SupportSet, fit: Ridge) -> Calibration:
    """From scores to probabilities, by the held-out scores of a fit."""
    most = max(FEWEST_CALIBRATED, CALIBRATION_SCORES // support.columns)
    asked = np.linspace(0, len(fit.rows) - 1, min(len(fit.rows), most)).round().astype(np.int64)
    rows, scores = fit.rows[asked], fit.held_out[asked]
    weights = support.weights[rows]
    total = float(support.weights.sum())
    # In a multi-label set, leaving out an example moves the shares, and so its score, by 1 / total.
    margin = max(fit.margin, SMALLEST_MARGIN if support.is_single else FEWEST_MOVES / total)
    center = USUAL_LOG_SLOPE - np.log(margin)
    if support.is_single:
        prior = SlopePrior(center, SLOPE_DEVIATION)
        return fit_softmax(scores, support.targets[rows], weights, prior)
    # With two classes a sigmoid sees half of the difference that a softmax sees.
    prior = SlopePrior(center + np.log(2), SLOPE_DEVIATION)
    usual = Usual.of(support.weights @ support.indicator / total, margin, total)
    return fit_sigmoids(scores, support.indicator[rows], weights, prior, usual)


def _alphabetical(support: SupportSet) -> list[int]:
    """The column of each class in alphabetical order, the negatives last."""
    order = sorted(range(len(support.labels)), key=support.labels.__getitem__)
    return [*order, support.columns - 1] if support.negatives else order


def _in_order(typicality: Typicality, order: list[int]) -> Typicality:
    classes = [column for column in order if column < len(typicality.centers)]
    return replace(typicality, basis=typicality.basis[order], centers=typicality.centers[classes])


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
