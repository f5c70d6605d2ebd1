"""What is known about a head before it meets a new input, and what is not: null. Knows no file format.

Everything comes from held-out predictions, each by a fit with all examples but the one. The calibration is
fitted to the same held-out scores: one number (and one for each label), so the bias is small.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.heads.calibration import Calibration
from training.heads.definite import Numbers
from training.heads.figures import SURE, Answers, Figures, multi_figures, single_figures, wilson_interval
from training.heads.learning import ask_part, forecast_accuracy
from training.heads.selection import Selected
from training.heads.support import Ints, SupportSet

TUNED = "tuned_on_these_examples"
DEPENDENCE = (
    5.0  # covers the truth in nine of ten runs from 5 examples of each class on (docs/experiments.md)
)
FEW_EXAMPLES = 5
DOMINANT_SHARE, DOMINANT_RATIO = 0.5, 5.0
OVERLAP = 0.25
MAX_OVERLAPS = 5
FEW_UNSEEN = 30  # held-out examples below which it is told that only they judge a head


@dataclass(frozen=True)
class Report:
    """Held-out quality of one head; a field is None where it cannot be known.

    Attributes
    ----------
    task : single_label or multi_label
    examples, held_out : number of examples, and of those that were predicted by a fit that had not seen them
    accuracy, accuracy_low, accuracy_high : held-out accuracy and its 95 % interval; of a multi-label head the
        share of inputs of which every label is right
    balanced_accuracy : mean recall over the classes; of a multi-label head, mean of recall and specificity
    negatives_rejected : share of the held-out negatives that are taken for none of the classes
    per_class : `label`, `examples`, `precision`, `recall` of each class
    confusion : `labels` and `matrix`; matrix[i][j] counts examples of labels[i] predicted as labels[j]; of a
        multi-label head `matrix` has true and false positives, false and true negatives of each label
    calibration_error : expected calibration error of the calibrated held-out probabilities
    log_loss : their mean negative log probability of the true class, in nats
    transform, regularisation, layers : what was chosen
    tried : `transform`, `regularisation` and held-out squared `error` of everything that was tried
    layers_tried : `layers` and held-out `error` of all choices of layers, if there was one
    slope : of the calibration; 1 / temperature
    learning : `examples_per_class` (mean) and `accuracy` with half of the examples or less, and with all
    forecast : `examples_per_class` and `accuracy` that are to be expected with twice as many
    timings_ms : milliseconds by part
    warnings : `code` and `message`, worst first
    """

    task: str
    examples: int
    held_out: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    balanced_accuracy: float | None
    negatives_rejected: float | None
    per_class: tuple[Mapping[str, Any], ...]
    confusion: Mapping[str, Any]
    calibration_error: float | None
    log_loss: float | None
    transform: str
    regularisation: float
    tried: tuple[Mapping[str, Any], ...]
    layers: tuple[str, ...]
    layers_tried: tuple[Mapping[str, Any], ...]
    slope: float
    unknown_threshold: float
    learning: tuple[Mapping[str, float], ...]
    forecast: Mapping[str, float] | None
    timings_ms: Mapping[str, float]
    warnings: tuple[Mapping[str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }


def accuracy_interval(correct: int, total: int, classes: int) -> tuple[float, float]:
    """95 % interval of the accuracy on new inputs, from held-out answers.

    Wilson's ("Probable inference", JASA 22, 1927), of fewer answers than there were: those of examples that
    were left out in turn depend on each other, the more the fewer there are of a class. `classes` is 0 for
    answers that do not.
    """
    return wilson_interval(correct / total, total / (1 + DEPENDENCE * classes / total))


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out answers to the examples that have a class.

    Attributes
    ----------
    labels : (k,) names in alphabetical order
    order : (k,) int64, the support set's column of each
    rows : (h,) int64, the support set's row of each example
    right : (h,) bool, whether every label is right
    figures : of the answers, by `labels`
    negatives : (g,) probability of "none of these" of the held-out negatives
    """

    labels: list[str]
    order: Ints
    rows: Ints
    right: npt.NDArray[np.bool_]
    figures: Figures
    negatives: Numbers

    @classmethod
    def of(cls, support: SupportSet, selected: Selected, calibration: Calibration) -> "HeldOut":
        order = np.argsort(np.array(support.labels))
        labels = [support.labels[column] for column in order]
        scores, rows = selected.fit.held_out, selected.fit.rows
        if not support.is_single:
            truth, chances = support.indicator[rows], calibration.probabilities(scores)
            right = ((chances >= SURE) == truth).all(axis=1)
            figures = multi_figures(labels, truth.take(order, axis=1), chances.take(order, axis=1))
            return cls(labels, order, rows, right, figures, np.zeros(0))
        targets = support.targets[rows]
        negatives: Numbers = np.zeros(0)
        if support.negatives:
            inside = targets < len(labels)
            negatives = calibration.probabilities(scores[~inside])[:, -1]
            calibration, scores = calibration.without_last, scores[inside, :-1]
            rows, targets = rows[inside], targets[inside]
        given = scores.argmax(axis=1)
        losses = calibration.losses(scores, np.column_stack((targets, given)))
        rank = np.argsort(order)
        answers = Answers(rank[targets], rank[given], np.exp(-losses[:, 1]), losses[:, 0])
        return cls(labels, order, rows, targets == given, single_figures(labels, answers), negatives)


def make_report(
    support: SupportSet,
    selected: Selected,
    calibration: Calibration,
    *,
    unknown_threshold: float,
) -> Report:
    """Summarise held-out predictions."""
    held = HeldOut.of(support, selected, calibration)
    counts, figures, total = support.counts[held.order], held.figures, len(held.rows)
    low, high = accuracy_interval(figures.correct, total, support.columns) if total else (None, None)
    learning, forecast = _learning(support, selected, held)
    rates = zip(held.labels, counts.tolist(), figures.precisions, figures.recalls, strict=True)
    return Report(
        task=support.task,
        examples=int(support.multiplicity.sum()),
        held_out=total,
        accuracy=figures.correct / total if total else None,
        accuracy_low=low,
        accuracy_high=high,
        balanced_accuracy=figures.balanced_accuracy,
        negatives_rejected=float((held.negatives > SURE).mean()) if len(held.negatives) else None,
        per_class=tuple(
            {"label": label, "examples": count, "precision": precision, "recall": recall}
            for label, count, precision, recall in rates
        ),
        confusion=figures.confusion,
        calibration_error=figures.calibration_error,
        log_loss=figures.log_loss,
        transform=selected.choice.transform,
        regularisation=selected.choice.penalty,
        tried=tuple(
            {"transform": transform, "regularisation": penalty, "error": error}
            for transform, penalty, error in selected.choice.tried
        ),
        layers=tuple(layer.name for layer in support.layers),
        layers_tried=(),
        slope=float(calibration.slope[0]),
        unknown_threshold=unknown_threshold,
        learning=learning,
        forecast=forecast,
        timings_ms={},
        warnings=tuple(_warnings(support, held, counts)),
    )


def _learning(
    support: SupportSet, selected: Selected, held: HeldOut
) -> tuple[tuple[Mapping[str, float], ...], Mapping[str, float] | None]:
    """Accuracy with a part of the examples and with all; what twice as many would give."""
    part = ask_part(support, selected)
    if part is None:
        return (), None
    truth = support.targets[part.rows]
    inside = truth < len(support.labels)
    answers = part.scores[:, : len(support.labels)].argmax(axis=1)
    each = len(support) / support.columns
    before = float((answers == truth)[inside].mean())
    full = held.figures.correct / len(held.rows)
    curve = ((each / 2**part.doublings, before), (each, full))
    twice = forecast_accuracy(before, full, part.doublings, int(inside.sum()))
    return (
        tuple({"examples_per_class": size, "accuracy": accuracy} for size, accuracy in curve),
        {"examples_per_class": 2 * each, "accuracy": twice},
    )


def _warnings(support: SupportSet, held: HeldOut, counts: Ints) -> Iterator[dict[str, str]]:
    for code, message in (
        *_tuned_warnings(support, len(held.rows)),
        *_size_warnings(held, counts),
        *_content_warnings(support, held.labels, held.figures.cells),
    ):
        yield {"code": code, "message": message}


def _tuned_warnings(support: SupportSet, held_out: int) -> Iterator[tuple[str, str]]:
    if support.unseen is None or support.unseen.all() or held_out >= FEW_UNSEEN:
        return
    total, seen = support.multiplicity.sum(), support.multiplicity[~support.unseen].sum()
    if seen == total:
        message = (
            "The extractor was trained on all of these examples, so what it says of them flatters it: how "
            "good this head is cannot be told. Add examples that it has not seen, or evaluate on such."
        )
    elif held_out:
        message = (
            f"The extractor was trained on {seen} of {total} examples, so accuracy and calibration rest on "
            f"{held_out} others alone."
        )
    else:
        message = (
            f"The extractor was trained on {seen} of {total} examples, and none of the others can be held "
            "out: how good this head is cannot be told."
        )
    yield TUNED, message


def _size_warnings(held: HeldOut, counts: Ints) -> Iterator[tuple[str, str]]:
    labels = held.labels
    seen = [bool(count) for count in held.figures.supports]
    if not any(seen):
        yield "not_validated", "No example could be held out: accuracy and calibration are unknown."
    elif not all(seen):
        unseen = [label for label, known in zip(labels, seen, strict=True) if not known]
        yield "class_not_validated", f"Never held out, so their recall is unknown: {_some(unseen)}."
    few = [label for label, count in zip(labels, counts.tolist(), strict=True) if count < FEW_EXAMPLES]
    if few:
        yield "few_examples", f"Fewer than {FEW_EXAMPLES} examples: {_some(few)}. Add more to learn better."
    top, total = int(counts.argmax()), int(counts.sum())
    if counts[top] > max(DOMINANT_SHARE * total, DOMINANT_RATIO * counts.min()):
        share = f"{labels[top]!r} has {counts[top]} of {total} examples"
        yield "class_dominates", f"{share}; all classes are given the same weight."


def _content_warnings(
    support: SupportSet, labels: Sequence[str], cells: Ints | None
) -> Iterator[tuple[str, str]]:
    if support.shared_inputs:
        yield "conflicting_labels", f"{support.shared_inputs} inputs appear under more than one label."
    if support.duplicates:
        yield "duplicates", f"{support.duplicates} examples repeat another of their class."
    if cells is None:
        return
    totals = cells.sum(axis=1)
    ones, others = np.nonzero(cells)
    ones, others = np.minimum(ones, others), np.maximum(ones, others)
    share = (cells[ones, others] + cells[others, ones]) / np.maximum(totals[ones] + totals[others], 1)
    found = (ones < others) & (share >= OVERLAP)
    pairs = sorted(
        {
            (-float(part), int(one), int(other))
            for part, one, other in zip(share[found], ones[found], others[found], strict=True)
        }
    )
    for part, one, other in pairs[:MAX_OVERLAPS]:
        names = f"{labels[one]!r} and {labels[other]!r}"
        yield "classes_overlap", f"{names} are mistaken for each other in {-part:.0%} of cases."


def _some(labels: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(repr(label) for label in labels[:most])
    return shown if len(labels) <= most else f"{shown} and {len(labels) - most} more"
