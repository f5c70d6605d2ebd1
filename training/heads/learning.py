"""How accuracy grows with the examples: measured with fewer of them, forecast for more. Knows no report.

Trained on a part and asked about the rest, a head shows what fewer examples would have given. Error falls
roughly by a constant factor with each doubling (Hestness et al., "Deep learning scaling is predictable,
empirically", 2017); the factor that was seen, drawn towards a usual one, gives the forecast.
"""

from dataclasses import dataclass
from math import ceil, log2

import numpy as np
import numpy.typing as npt

from training.heads.definite import Numbers, solve_definite
from training.heads.ridge import Solution, moments_of, solve_primal
from training.heads.selection import Selected
from training.heads.support import Doubles, Ints, SupportSet, evenly

# Error after a doubling over error before: mean over cats_dogs, blood_cells and ham10000.
USUAL_FACTOR = 0.85
USUAL_WEIGHT = 8.0  # of it, in errors that were seen
LEAST_FACTOR = 0.5
MAX_ASKED = 512
MAX_TRAINED = 16_384  # examples of a part: more would cost a noticeable share of the fit
BOTH_HALVES = 512  # examples up to which both halves are trained on in turn


@dataclass(frozen=True)
class Part:
    """What a part of the examples gives.

    Attributes
    ----------
    doublings : how often the part must be doubled to be all
    rows : (h,) int64, examples that were asked about
    scores : (h, K) float64, their scores
    """

    doublings: int
    rows: Ints
    scores: Doubles


def ask_part(support: SupportSet, selected: Selected) -> Part | None:
    """Fit to half of the examples or less, ask about others; None if a class would be without examples."""
    doublings = max(1, ceil(log2(len(support) / MAX_TRAINED)))
    if not support.is_single or support.distinct_counts.min() < 2**doublings:
        return None
    part = _every(support, 2**doublings)
    if not len(_unknown(support, part)):
        return None
    shift = 0.0 if selected.fit.shift is None else selected.fit.shift
    if selected.span is None or selected.solution is None:
        rows, scores = _primal_part(support, selected, part)
        return Part(doublings, rows, scores + shift)
    parts = (part, ~part) if len(support) <= BOTH_HALVES else (part,)
    gram, penalty = selected.span.gram, selected.choice.penalty
    asked = [_dual_part(gram, selected.solution, support, penalty, part) for part in parts]
    rows, scores = (np.concatenate(arrays) for arrays in zip(*asked, strict=True))
    return Part(doublings, rows, scores + shift)


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


def _every(support: SupportSet, step: int) -> npt.NDArray[np.bool_]:
    """Whether an example is one of every `step` of its class, in their canonical (random) order: (n,)."""
    return np.asarray((np.arange(len(support)) - support.starts[support.targets]) % step == 0)


def _unknown(support: SupportSet, part: npt.NDArray[np.bool_]) -> Ints:
    """Rows to ask a fit to `part` about."""
    rows = np.flatnonzero(~part if support.unseen is None else ~part & support.unseen)
    return rows[evenly(len(rows), MAX_ASKED)]


def _dual_part(
    gram: Numbers, solution: Solution, support: SupportSet, penalty: float, part: npt.NDArray[np.bool_]
) -> tuple[Ints, Doubles]:
    known, left_out = np.flatnonzero(part), np.flatnonzero(~part)
    asked = _unknown(support, part)
    totals = np.bincount(support.targets[known], support.weights[known], support.columns)
    weights = support.weights[known] * (totals.mean() / totals)[support.targets[known]]
    if np.allclose(weights, support.weights[known]):
        residuals = solution.residuals(left_out[None, :])[0][np.searchsorted(left_out, asked)]
        return asked, support.indicator[asked] - residuals.astype(np.float64)
    # The classes keep different shares of their examples.
    system = gram[np.ix_(known, known)]
    system.flat[:: len(known) + 1] += (penalty / weights).astype(gram.dtype)
    right = np.ones((len(known), support.columns + 1), dtype=gram.dtype)
    right[:, :-1] = support.indicator[known]
    solved = solve_definite(system, right)
    plain, ones = solved[:, :-1], solved[:, -1:]
    bias = plain.sum(axis=0) / ones.sum()
    return asked, (gram[np.ix_(asked, known)] @ (plain - ones * bias) + bias).astype(np.float64)


def _primal_part(
    support: SupportSet, selected: Selected, part: npt.NDArray[np.bool_]
) -> tuple[Ints, Doubles]:
    choice = selected.choice
    fit = solve_primal(moments_of(support, choice.transform, np.flatnonzero(part)), choice.penalty)
    rows = _unknown(support, part)
    features = support.features(choice.transform, rows)
    return rows, (features @ fit.weights.T).astype(np.float64) + fit.bias
