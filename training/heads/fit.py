"""From a support set to a head: the one entry point of fitting. Knows no file, no database and no HTTP."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from time import perf_counter

from training import __version__
from training.heads.calibration import calibrate
from training.heads.gathering import gather
from training.heads.head import Head
from training.heads.layer_choice import choose_layers
from training.heads.memory import keep_freed_memory
from training.heads.options import FitOptions
from training.heads.report import make_report
from training.heads.selection import select
from training.heads.support import SupportSet
from training.heads.threads import MOST, one_thread_for
from training.heads.typicality import Typicality, fit_typicality

DEFAULT_OPTIONS = FitOptions()


def fit_head(
    embeddings: object,
    labels: Sequence[str] | Sequence[Collection[str]],
    *,
    extractor_digest: str,
    options: FitOptions = DEFAULT_OPTIONS,
    layer_dims: Mapping[str, int] | None = None,
    unseen: Sequence[bool] | None = None,
    parent_version: int | None = None,
) -> Head:
    """Fit, choose, calibrate and evaluate a head.

    The result depends on the set of examples, the options and nothing else: not on the order of the examples,
    and renaming the labels renames the classes.

    Parameters
    ----------
    embeddings : (n, width) float32, finite: rows of an extractor, or embeddings
    labels : n non-empty strings, at least two different ones; `__none__` marks an example of no class. For a
        multi-label head n collections of strings; an empty one marks an example of no class
    extractor_digest : digest of the extractor that made the embeddings
    options : how to fit
    layer_dims : length of each layer of a row, in order; None for embeddings
    unseen : for an extractor that was trained on some of the inputs: whether it was not on each. All are
        examples; only the unseen ones are held out in turn, and so choose, calibrate and report. None: all
        are unseen
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
    keep_freed_memory()
    with one_thread_for(len(labels)):
        clock = _Clock()
        support = gather(embeddings, labels, options.task, options.seed, layer_dims, unseen)
        return _fit(support, extractor_digest, options, parent_version, clock)


def _fit(
    support: SupportSet,
    extractor_digest: str,
    options: FitOptions,
    parent_version: int | None,
    clock: "_Clock",
) -> Head:
    chosen = choose_layers(support, options)
    support = chosen.support
    clock.lap("prepare")
    selected = select(support, options)
    fit = selected.fit
    # What is left is small products, whatever the number of examples.
    with one_thread_for(min(len(support), MOST)):
        calibration = calibrate(support, fit.rows, fit.held_out, fit.margin)
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
        width=support.width,
        layers=support.layers,
        extractor_digest=extractor_digest,
        transform=selected.choice.transform,
        weights=fit.weights[order],
        bias=fit.bias[order],
        calibration=replace(calibration, slope=calibration.slope[order], offset=calibration.offset[order]),
        typicality=_in_order(typicality, order),
        unknown_threshold=threshold,
        report=replace(report, layers_tried=chosen.tried, timings_ms=clock.laps()),
        parent_version=parent_version,
        library_version=__version__,
    )


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
