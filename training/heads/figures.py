"""How good answers are whose truth is known. Does not know where the answers come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from training.heads.calibration import calibration_error, log_losses
from training.heads.definite import Numbers
from training.heads.support import Doubles, Ints

NORMAL_95 = 1.959963984540054
SURE = 0.5  # probability from which a label of a multi-label head is given
MAX_MATRIX = 100  # classes up to which the confusion is a matrix

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Figures:
    """Quality of m answers about k labels; a figure is None where nothing was counted.

    Attributes
    ----------
    correct : answers of which every label is right
    supports : inputs of each label
    precisions, recalls, f1s : of each label
    balanced : recall of each label; of several labels, the mean of recall and specificity
    confusion : `labels` and `matrix`, as in `Report`
    cells : (k, k) int64, what `confusion` shows of one label each; None of several labels
    calibration_error : expected calibration error
    log_loss : mean negative log probability of the truth, in nats
    """

    correct: int
    supports: list[int]
    precisions: list[float | None]
    recalls: list[float | None]
    f1s: list[float | None]
    balanced: list[float | None]
    confusion: dict[str, Any]
    cells: Ints | None
    calibration_error: float | None
    log_loss: float | None

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of `balanced` over the labels of which it is known."""
        known = [value for value in self.balanced if value is not None]
        return sum(known) / len(known) if known else None


def wilson_interval(share: float, total: float) -> tuple[float, float]:
    """95 % interval of a share of `total` independent answers (Wilson, JASA 22, 1927)."""
    z2 = NORMAL_95**2 / total
    middle = (share + z2 / 2) / (1 + z2)
    half = NORMAL_95 / (1 + z2) * sqrt(share * (1 - share) / total + z2 / (4 * total))
    # At the ends the sums miss 0 and 1 by rounding.
    return 0.0 if share == 0 else middle - half, 1.0 if share == 1 else middle + half


@dataclass(frozen=True, eq=False)
class Answers:
    """m answers of one label each.

    Attributes
    ----------
    targets, given : (m,) int64, the true label and the most probable one
    confidence : (m,) float64, probability of the most probable one
    losses : (m,) float64, negative log probability of the true one, in nats
    """

    targets: Ints
    given: Ints
    confidence: Doubles
    losses: Doubles

    @classmethod
    def of(cls, truth: Flags, chances: Doubles) -> "Answers":
        """From (m, k) bool with one True in each row, and probabilities (m, k) float64."""
        targets = truth.argmax(axis=1)
        return cls(targets, chances.argmax(axis=1), chances.max(axis=1), log_losses(chances, targets))


def single_figures(labels: Sequence[str], answers: Answers) -> Figures:
    """Figures of answers of one of k labels each."""
    targets, given = answers.targets, answers.given
    classes, total = len(labels), len(targets)
    cells = np.bincount(targets * classes + given, minlength=classes * classes).reshape(classes, classes)
    right, supports, said = np.diagonal(cells), cells.sum(axis=1), cells.sum(axis=0)
    recalls = _ratios(right, supports)
    return Figures(
        correct=int(right.sum()),
        supports=supports.tolist(),
        precisions=_ratios(right, said),
        recalls=recalls,
        f1s=_ratios(2 * right, supports + said),
        balanced=recalls,
        confusion=_confusion(labels, cells),
        cells=cells,
        calibration_error=calibration_error(answers.confidence, targets == given) if total else None,
        log_loss=float(answers.losses.mean()) if total else None,
    )


def multi_figures(labels: Sequence[str], truth: Flags, chances: Numbers) -> Figures:
    """Figures of answers of any number of labels; shapes (m, k) bool and float64, k names."""
    given = chances >= SURE
    true_positive, false_positive = (given & truth).sum(axis=0), (given & ~truth).sum(axis=0)
    positive = truth.sum(axis=0)
    negative = len(truth) - positive
    recalls = _ratios(true_positive, positive)
    specificities = _ratios(negative - false_positive, negative)
    columns = (true_positive, false_positive, positive - true_positive, negative - false_positive)
    own = np.where(truth, chances, 1 - chances)
    sure = np.where(given, chances, 1 - chances)
    total = len(truth)
    return Figures(
        correct=int((given == truth).all(axis=1).sum()),
        supports=positive.tolist(),
        precisions=_ratios(true_positive, true_positive + false_positive),
        recalls=recalls,
        f1s=_ratios(2 * true_positive, positive + true_positive + false_positive),
        balanced=[
            None if one is None or other is None else (one + other) / 2
            for one, other in zip(recalls, specificities, strict=True)
        ],
        confusion={"labels": list(labels), "matrix": np.column_stack(columns).tolist()},
        cells=None,
        calibration_error=calibration_error(sure.ravel(), (given == truth).ravel()) if total else None,
        log_loss=float(-np.log(np.maximum(own, np.finfo(np.float64).tiny)).mean()) if total else None,
    )


def _confusion(labels: Sequence[str], cells: Ints) -> dict[str, Any]:
    """The matrix, or the cells that are not zero if there are too many classes to print it."""
    if len(labels) <= MAX_MATRIX:
        return {"labels": list(labels), "matrix": cells.tolist()}
    rows, columns = np.nonzero(cells)
    triples = np.column_stack((rows, columns, cells[rows, columns]))
    return {"labels": list(labels), "matrix": None, "cells": triples.tolist()}


def _ratios(parts: Ints, totals: Ints) -> list[float | None]:
    """Each part over its total; None where nothing was counted."""
    pairs = zip(parts.tolist(), totals.tolist(), strict=True)
    return [part / total if total else None for part, total in pairs]
