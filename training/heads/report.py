"""What is known about a head before it meets a new input, and what is not: null. Knows no file format.

Everything comes from held-out predictions, so it describes heads fitted to slightly fewer examples than the
one that is served. The temperature is fitted to the same held-out scores: one number, so the bias is small.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np

from training.heads.calibration import Doubles, calibration_error, log_losses, probabilities
from training.heads.selection import Selected
from training.heads.support import Ints, SupportSet

NORMAL_95 = 1.959963984540054
FEW_EXAMPLES = 5
DOMINANT_SHARE, DOMINANT_RATIO = 0.5, 5.0
OVERLAP = 0.25
MAX_OVERLAPS = 5


@dataclass(frozen=True)
class Report:
    """Cross-validated quality of one head; a field is None where it cannot be known.

    Attributes
    ----------
    examples, held_out : number of examples, and of those that were predicted by a head that had not seen them
    accuracy, accuracy_low, accuracy_high : held-out accuracy and its 95 % Wilson interval
    balanced_accuracy : mean recall over the classes that have held-out examples
    per_class : `label`, `examples`, `precision`, `recall` of each class
    confusion : `labels` and `matrix`; matrix[i][j] counts examples of labels[i] predicted as labels[j]
    calibration_error : expected calibration error of the calibrated held-out probabilities
    log_loss : their mean negative log probability of the true class, in nats
    folds : folds evaluated, 0 if nothing could be held out
    regularisation : C, None for methods without one
    regularisation_tried : `regularisation` and held-out `log_loss` of each that was tried
    learning : `examples_per_class` (mean, of the training folds) and `accuracy`, of half of them and of all
    timings_ms : milliseconds by part
    warnings : `code` and `message`, worst first
    """

    examples: int
    held_out: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    balanced_accuracy: float | None
    per_class: tuple[Mapping[str, Any], ...]
    confusion: Mapping[str, Any]
    calibration_error: float | None
    log_loss: float | None
    folds: int
    method: str
    regularisation: float | None
    regularisation_tried: tuple[Mapping[str, float], ...]
    temperature: float
    unknown_threshold: float
    converged: bool
    learning: tuple[Mapping[str, float], ...]
    timings_ms: Mapping[str, float]
    warnings: tuple[Mapping[str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, "Probable inference", JASA 22, 1927)."""
    share, z2 = correct / total, NORMAL_95**2 / total
    middle = (share + z2 / 2) / (1 + z2)
    half = NORMAL_95 / (1 + z2) * sqrt(share * (1 - share) / total + z2 / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def make_report(
    support: SupportSet,
    selected: Selected,
    *,
    method: str,
    folds: int,
    unknown_threshold: float,
    timings_ms: Mapping[str, float],
) -> Report:
    """Summarise held-out predictions, with labels in alphabetical order."""
    order = np.argsort(np.array(support.labels))
    labels = [support.labels[index] for index in order]
    truth = np.argsort(order)[support.targets[selected.rows]]
    chances = probabilities(selected.scores[:, order], selected.temperature)
    confusion = _confusion(chances, truth, len(labels))
    counts = support.counts[order]
    total, correct = len(truth), int(np.trace(confusion))
    low, high = wilson_interval(correct, total) if total else (None, None)
    recalls, precisions = _rates(confusion, 1), _rates(confusion, 0)
    known = [recall for recall in recalls if recall is not None]
    return Report(
        examples=len(support.targets),
        held_out=total,
        accuracy=correct / total if total else None,
        accuracy_low=low,
        accuracy_high=high,
        balanced_accuracy=sum(known) / len(known) if known else None,
        per_class=tuple(
            {"label": label, "examples": int(count), "precision": precision, "recall": recall}
            for label, count, precision, recall in zip(labels, counts, precisions, recalls, strict=True)
        ),
        confusion={"labels": labels, "matrix": confusion.tolist()},
        calibration_error=calibration_error(chances, truth) if total else None,
        log_loss=float(log_losses(chances, truth).mean()) if total else None,
        folds=folds,
        method=method,
        regularisation=selected.regularisation,
        regularisation_tried=tuple(
            {"regularisation": value, "log_loss": loss} for value, loss in selected.log_losses
        ),
        temperature=selected.temperature,
        unknown_threshold=unknown_threshold,
        converged=selected.converged,
        learning=_learning(support, selected, folds),
        timings_ms=dict(timings_ms),
        warnings=tuple(_warnings(support, selected, labels, counts, confusion)),
    )


def _confusion(chances: Doubles, truth: Ints, classes: int) -> Ints:
    cells = truth * classes + chances.argmax(axis=1)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def _rates(confusion: Ints, axis: int) -> list[float | None]:
    """Diagonal over the sum along `axis`: recall for 1, precision for 0; None where nothing was counted."""
    pairs = zip(np.diag(confusion).tolist(), confusion.sum(axis=axis).tolist(), strict=True)
    return [right / total if total else None for right, total in pairs]


def _learning(support: SupportSet, selected: Selected, folds: int) -> tuple[Mapping[str, float], ...]:
    if not folds or selected.half_scores is None:
        return ()
    truth = support.targets[selected.rows]
    trained = (len(support.targets) - len(truth) / folds) / len(support.labels)
    return tuple(
        {"examples_per_class": size, "accuracy": float(np.mean(scores.argmax(axis=1) == truth))}
        for size, scores in ((trained / 2, selected.half_scores), (trained, selected.scores))
        if size >= 1
    )


def _warnings(
    support: SupportSet, selected: Selected, labels: Sequence[str], counts: Ints, confusion: Ints
) -> list[dict[str, str]]:
    found = [*_size_warnings(labels, counts, confusion), *_content_warnings(support, labels, confusion)]
    if not selected.converged:
        found.append(("not_converged", "The fit hit its limit of steps; a smaller regularisation may help."))
    return [{"code": code, "message": message} for code, message in found]


def _size_warnings(labels: Sequence[str], counts: Ints, confusion: Ints) -> Iterator[tuple[str, str]]:
    unseen = [label for label, total in zip(labels, confusion.sum(axis=1), strict=True) if total == 0]
    if len(unseen) == len(labels):
        yield "not_validated", "No example could be held out: accuracy and calibration are unknown."
    elif unseen:
        yield "class_not_validated", f"Never held out, so their recall is unknown: {_some(unseen)}."
    few = [label for label, count in zip(labels, counts, strict=True) if count < FEW_EXAMPLES]
    if few:
        yield "few_examples", f"Fewer than {FEW_EXAMPLES} examples: {_some(few)}. Add more to learn better."
    top, total = int(counts.argmax()), int(counts.sum())
    if counts[top] > max(DOMINANT_SHARE * total, DOMINANT_RATIO * counts.min()):
        share = f"{labels[top]!r} has {counts[top]} of {total} examples"
        yield "class_dominates", f"{share}; all classes are given the same weight."


def _content_warnings(
    support: SupportSet, labels: Sequence[str], confusion: Ints
) -> Iterator[tuple[str, str]]:
    if support.shared_inputs:
        yield "conflicting_labels", f"{support.shared_inputs} inputs appear under more than one label."
    if support.duplicates:
        yield "duplicates", f"{support.duplicates} examples repeat another of their class."
    totals = confusion.sum(axis=1)
    share = np.triu((confusion + confusion.T) / np.maximum(totals[:, None] + totals[None, :], 1), 1)
    pairs = sorted(np.argwhere(share >= OVERLAP).tolist(), key=lambda pair: -share[pair[0], pair[1]])
    for one, other in pairs[:MAX_OVERLAPS]:
        names = f"{labels[one]!r} and {labels[other]!r}"
        yield "classes_overlap", f"{names} are mistaken for each other in {share[one, other]:.0%} of cases."


def _some(labels: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(repr(label) for label in labels[:most])
    return shown if len(labels) <= most else f"{shown} and {len(labels) - most} more"
