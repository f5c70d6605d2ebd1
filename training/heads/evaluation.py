"""How good a head is on labelled inputs that it has not learned from. Knows no support set and no file."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.errors import SupportSetError
from training.heads.figures import SURE, Answers, Flags, multi_figures, single_figures, wilson_interval
from training.heads.head import Prediction
from training.heads.options import SINGLE_LABEL
from training.heads.support import NEGATIVE_LABEL

# What a float32 can be, short of 0 and 1: a probability that was rounded to one of them costs no more.
SMALLEST_CHANCE = float(np.finfo(np.float32).tiny)
LARGEST_CHANCE = 1 - float(np.finfo(np.float32).epsneg)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Quality of one head on m inputs; a figure is None where nothing was counted.

    Attributes
    ----------
    inputs : number of inputs that have a class
    negatives : number of inputs of none of the classes
    accuracy, accuracy_low, accuracy_high : share of right answers and its 95 % interval, if the inputs are
        independent of each other and of the support set; of a multi-label head, the share of inputs,
        negatives included, of which every label is right
    balanced_accuracy : mean recall over the classes; of a multi-label head, mean of recall and specificity
    per_class : `label`, `support`, `precision`, `recall`, `f1` of each class
    confusion : `labels` and `matrix`, as in `Report`
    calibration_error, log_loss : of the probabilities; see `Report`
    unknown_rate : share of the inputs that have a class and were answered unknown
    negatives_rejected : share of the negatives that were answered unknown; a multi-label head also rejects
        one by giving it no label
    """

    inputs: int
    negatives: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    balanced_accuracy: float | None
    per_class: tuple[dict[str, Any], ...]
    confusion: dict[str, Any]
    calibration_error: float | None
    log_loss: float | None
    unknown_rate: float | None
    negatives_rejected: float | None


def evaluate(prediction: Prediction, labels: Sequence[Collection[str]]) -> Evaluation:
    """Compare the answers of a head with the truth.

    Parameters
    ----------
    prediction : answers for m inputs
    labels : the labels of each input: one of the head's classes, or several if it is multi-label; `__none__`,
        or no label if it is multi-label, marks an input of none of the classes

    Raises
    ------
    SupportSetError
        If a label is not one of the head's, or a single-label head is given several for an input.
    """
    single = prediction.task == SINGLE_LABEL
    truth = _truth(labels, prediction.classes, single)
    known = truth.any(axis=1)
    chances = np.clip(prediction.probabilities.astype(np.float64), SMALLEST_CHANCE, LARGEST_CHANCE)
    counted = known if single else np.ones_like(known)
    if single:
        figures = single_figures(prediction.classes, Answers.of(truth[counted], chances[counted]))
    else:
        figures = multi_figures(prediction.classes, truth[counted], chances[counted])
    total = int(counted.sum())
    low, high = wilson_interval(figures.correct / total, total) if total else (None, None)
    rejected = prediction.unknown if single else prediction.unknown | (chances < SURE).all(axis=1)
    rows = zip(
        prediction.classes,
        figures.supports,
        figures.precisions,
        figures.recalls,
        figures.f1s,
        strict=True,
    )
    return Evaluation(
        inputs=int(known.sum()),
        negatives=int((~known).sum()),
        accuracy=figures.correct / total if total else None,
        accuracy_low=low,
        accuracy_high=high,
        balanced_accuracy=figures.balanced_accuracy,
        per_class=tuple(
            {"label": label, "support": support, "precision": precision, "recall": recall, "f1": f1}
            for label, support, precision, recall, f1 in rows
        ),
        confusion=figures.confusion,
        calibration_error=figures.calibration_error,
        log_loss=figures.log_loss,
        unknown_rate=_share(prediction.unknown[known]),
        negatives_rejected=_share(rejected[~known]),
    )


def _truth(labels: Sequence[Collection[str]], classes: Sequence[str], single: bool) -> Flags:
    """Which classes each input has: (m, k)."""
    number = {name: index for index, name in enumerate(classes)}
    truth = np.zeros((len(labels), len(classes)), dtype=bool)
    for row, names in enumerate(labels):
        for name in names:
            if name == NEGATIVE_LABEL:
                continue
            if name not in number:
                raise SupportSetError(f"labels: expected one of the head's classes, got {name!r} at {row}")
            truth[row, number[name]] = True
        count = len(set(names))
        if (count > 1 and (single or NEGATIVE_LABEL in names)) or (single and not count):
            expected = "one label" if single else f"labels, or {NEGATIVE_LABEL} alone"
            raise SupportSetError(f"labels: expected {expected} at {row}, got {count}")
    return truth


def _share(flags: Flags) -> float | None:
    return float(flags.mean()) if len(flags) else None
