"""Held-out probabilities for examples of which some labels are wrong. Knows no label's name and no copies.

Wrong labels pull the fit that shall find them. So there are two fits, the second without the examples that
the first takes for another class, as in confident learning (Northcutt, Jiang and Chuang, "Confident learning:
estimating uncertainty in dataset labels", JAIR 70, 2021). The two answers are averaged: the second is better
where many labels are wrong, the first where classes overlap (docs/experiments.md).
"""

import numpy as np
import numpy.typing as npt

from training.heads.calibration import Calibration, calibrate
from training.heads.definite import Numbers
from training.heads.moments import CHUNK_ROWS, moments_of
from training.heads.options import FitOptions
from training.heads.ridge import primal_scores, solve_primal
from training.heads.selection import Selected, select
from training.heads.support import Doubles, Ints, SupportSet

MORE_LIKELY = 0.5  # probability of another class from which the second fit leaves an example out
FEWEST_KEPT = 2  # examples of a class
SMALLEST_SHARE_KEPT = 0.5  # of the examples of a class; else all are kept


def held_out_chances(support: SupportSet, options: FitOptions) -> tuple[Ints, Numbers]:
    """The rows (h,) that can be held out, and probabilities (h, K) of all columns, mean of two passes."""
    rows = np.flatnonzero(support.can_be_held_out)
    if not len(rows):
        return rows, np.zeros((0, support.columns))
    first = select(support, options)
    chances = _calibrated(support, first).probabilities(_held_out(support, first, rows))
    trusted = _trusted(support, rows, chances)
    if trusted.all():
        return rows, chances
    rest = support.subset(np.flatnonzero(trusted))
    second = select(rest, options)
    scores = _fitted(support, second, rows)
    # A class of two or more keeps two or more, so that what is trusted here can be held out there.
    known = trusted[rows]
    scores[known] = _held_out(rest, second, (np.cumsum(trusted) - 1)[rows[known]])
    return rows, (chances + _calibrated(rest, second).probabilities(scores)) / 2


def _calibrated(support: SupportSet, selected: Selected) -> Calibration:
    fit = selected.fit
    return calibrate(support, fit.rows, fit.held_out, fit.margin)


def _trusted(support: SupportSet, rows: Ints, chances: Numbers) -> npt.NDArray[np.bool_]:
    """Examples that are not taken for another class, and all of a class that would lose too many: (n,)."""
    doubted = np.zeros(len(support), dtype=bool)
    targets = support.targets[rows]
    own = chances[np.arange(len(rows)), targets]
    doubted[rows] = (chances.max(axis=1) > MORE_LIKELY) & (chances.max(axis=1) > own)
    left = np.bincount(support.targets[~doubted], minlength=support.columns)
    fewest = np.maximum(FEWEST_KEPT, SMALLEST_SHARE_KEPT * support.distinct_counts)
    return np.asarray(~doubted | (left < fewest)[support.targets])


def _held_out(support: SupportSet, selected: Selected, rows: Ints) -> Doubles:
    """Scores (h, K) of rows by fits without each of them."""
    if len(selected.fit.rows) == int(support.can_be_held_out.sum()):
        return selected.fit.held_out[np.searchsorted(selected.fit.rows, rows)].astype(np.float64)
    choice = selected.choice
    fit = solve_primal(moments_of(support, choice.transform, np.arange(len(support))), choice.penalty)
    scores = np.empty((len(rows), support.columns))
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = rows[start : start + CHUNK_ROWS]
        residuals = primal_scores(support, choice.transform, fit, chunk)[1]
        scores[start : start + CHUNK_ROWS] = support.indicator[chunk] - residuals
    return scores + (selected.fit.bias - fit.bias)


def _fitted(support: SupportSet, selected: Selected, rows: Ints) -> Doubles:
    """Scores (h, K) of rows by a fit."""
    fit = selected.fit
    scores = np.empty((len(rows), support.columns))
    for start in range(0, len(rows), CHUNK_ROWS):
        features = support.features(selected.choice.transform, rows[start : start + CHUNK_ROWS])
        scores[start : start + CHUNK_ROWS] = features @ fit.weights.T + fit.bias
    return scores
