"""How accuracy grows with the examples: measured with fewer of them, forecast for more. Knows no report.

Trained on a part and asked about the rest, a head shows what fewer examples would have given. Error falls
roughly by a constant factor with each doubling (Hestness et al., "Deep learning scaling is predictable,
empirically", 2017); the factor that was seen, drawn towards a usual one, gives the forecast.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.heads.definite import Numbers, solve_definite
from training.heads.moments import Moments
from training.heads.portion import portion_of
from training.heads.ridge import Solution, scores_from
from training.heads.selection import Selected
from training.heads.support import Ints, SupportSet, evenly

# Error after a doubling over error before: mean over cats_dogs, blood_cells and ham10000.
USUAL_FACTOR = 0.85
USUAL_WEIGHT = 8.0  # of it, in errors that were seen
LEAST_FACTOR = 0.5
MAX_ASKED = 512
BOTH_HALVES = 512  # examples up to which both halves are trained on in turn


@dataclass(frozen=True)
class Part:
    """What a part of the examples gives.

    Attributes
    ----------
    doublings : how often the part must be doubled to be all
    rows : (h,) int64, examples that were asked about
    scores : (h, K), their scores
    """

    doublings: int
    rows: Ints
    scores: Numbers


def ask_part(support: SupportSet, selected: Selected) -> Part | None:
    """Fit to half of the examples or less, ask about others; None if a class would be without examples."""
    portion = portion_of(support)
    if portion is None or not len(_unknown(support, portion.known)):
        return None
    if selected.span is not None and selected.solution is not None:
        known = portion.known
        parts = (known, ~known) if len(support) <= BOTH_HALVES else (known,)
        gram, penalty = selected.span.gram, selected.choice.penalty
        asked = [_dual_part(gram, selected.solution, support, penalty, part) for part in parts]
        rows, scores = (np.concatenate(arrays) for arrays in zip(*asked, strict=True))
    elif selected.fewer is not None:
        rows, scores = _primal_part(support, selected, selected.fewer, portion.known)
    else:
        return None
    if selected.fit.shift is not None:
        scores = scores + selected.fit.shift.astype(scores.dtype)
    return Part(portion.doublings, rows, scores)


def forecast_accuracy(before: float, after: float, doublings: int, asked: int) -> float:
    """Accuracy that twice the examples would give.

    Parameters
    ----------
    before, after : accuracy with a part of the examples and with all
    doublings : how often the part must be doubled to be all
    asked : number of answers behind each of the two accuracies
    """
    fewer, more = (1 - before) * asked, (1 - after) * asked
    usual = USUAL_FACTOR**doublings
    factor = ((more + USUAL_WEIGHT * usual) / (fewer + USUAL_WEIGHT)) ** (1 / doublings)
    return 1 - (1 - after) * float(np.clip(factor, LEAST_FACTOR, 1.0))


def _unknown(support: SupportSet, part: npt.NDArray[np.bool_]) -> Ints:
    """Rows to ask a fit to `part` about."""
    rows = np.flatnonzero(~part if support.unseen is None else ~part & support.unseen)
    return rows[evenly(len(rows), MAX_ASKED)]


def _dual_part(
    gram: Numbers, solution: Solution, support: SupportSet, penalty: float, part: npt.NDArray[np.bool_]
) -> tuple[Ints, Numbers]:
    known, left_out = np.flatnonzero(part), np.flatnonzero(~part)
    asked = _unknown(support, part)
    totals = np.bincount(support.targets[known], support.weights[known], support.columns)
    weights = support.weights[known] * (totals.mean() / totals)[support.targets[known]]
    if np.allclose(weights, support.weights[known]):
        residuals = solution.residuals(left_out[None, :])[0]
        return asked, support.indicator_less(residuals[np.searchsorted(left_out, asked)], asked)
    # The classes keep different shares of their examples.
    system = gram[np.ix_(known, known)]
    system.flat[:: len(known) + 1] += (penalty / weights).astype(gram.dtype)
    right = np.ones((len(known), support.columns + 1), dtype=gram.dtype)
    right[:, :-1] = support.indicator[known]
    solved = solve_definite(system, right)
    plain, ones = solved[:, :-1], solved[:, -1:]
    bias = plain.sum(axis=0) / ones.sum()
    # Of a product that is left zero below the diagonal, the one of the two is there.
    products = gram[np.ix_(asked, known)] + gram[np.ix_(known, asked)].T
    return asked, np.asarray(products @ (plain - ones * bias) + bias)


def _primal_part(
    support: SupportSet, selected: Selected, moments: Moments, part: npt.NDArray[np.bool_]
) -> tuple[Ints, Numbers]:
    rows = _unknown(support, part)
    features = support.features(selected.choice.transform, rows)
    return rows, scores_from(moments, selected.choice.penalty, features)
