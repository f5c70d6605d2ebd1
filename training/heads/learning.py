"""How accuracy grows with the examples: measured with fewer of them, forecast for more. Knows no report.

Trained on one half and asked about the other, a head shows what half of the examples would have given. Error
falls roughly by a constant factor with each doubling (Hestness et al., "Deep learning scaling is predictable,
empirically", 2017); the factor that was seen, drawn towards a usual one, gives the forecast.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from training.heads.ridge import moments_of, solve_primal
from training.heads.selection import Selected
from training.heads.support import Doubles, Ints, SupportSet

# Error after a doubling over error before: mean over cats_dogs, blood_cells and ham10000.
USUAL_FACTOR = 0.85
USUAL_WEIGHT = 8.0  # of it, in errors that were seen
LEAST_FACTOR = 0.5
MAX_ASKED = 2048
BOTH_HALVES = 512  # examples up to which both halves are trained on in turn


@dataclass(frozen=True)
class Half:
    """What half of the examples give: rows (h,) that were asked about and their scores (h, K)."""

    rows: Ints
    scores: Doubles


def ask_half(support: SupportSet, selected: Selected) -> Half | None:
    """Fit to every second example, ask about the others; None if a class would be without examples."""
    if not support.is_single or support.distinct_counts.min() < 2:
        return None
    second = _every_second(support)
    if selected.span is None:
        return _primal_half(support, selected, second)
    gram = selected.span.gram
    halves = (second, ~second) if len(support) <= BOTH_HALVES else (second,)
    asked = [_dual_half(gram, support, selected.choice.penalty, half) for half in halves]
    return Half(np.concatenate([rows for rows, _ in asked]), np.concatenate([scores for _, scores in asked]))


def forecast_accuracy(half: float, full: float, asked: int) -> float:
    """Accuracy that twice the examples would give, from that of half of them and of all.

    Parameters
    ----------
    asked : number of examples behind each of the two accuracies
    """
    before, after = (1 - half) * asked, (1 - full) * asked
    factor = (after + USUAL_WEIGHT * USUAL_FACTOR) / (before + USUAL_WEIGHT)
    return 1 - (1 - full) * float(np.clip(factor, LEAST_FACTOR, 1.0))


def _every_second(support: SupportSet) -> npt.NDArray[np.bool_]:
    """Every second example of each class, in their canonical (random) order."""
    starts = np.searchsorted(support.targets, np.arange(support.columns))
    return np.asarray((np.arange(len(support)) - starts[support.targets]) % 2 == 0)


def _dual_half(
    gram: npt.NDArray[np.float32], support: SupportSet, penalty: float, half: npt.NDArray[np.bool_]
) -> tuple[Ints, Doubles]:
    known, asked = np.flatnonzero(half), np.flatnonzero(~half)
    indicator = support.indicator[known].astype(np.float32)
    weights = support.weights[known] / (indicator @ _balance(support, known))
    system = gram[np.ix_(known, known)]
    system.flat[:: len(known) + 1] += (penalty / weights).astype(np.float32)
    right = np.ones((len(known), support.columns + 1), dtype=np.float32)
    right[:, :-1] = indicator
    _, solved, failed = lapack.sposv(system.T, right, lower=1, overwrite_a=1)
    if failed:
        solved = np.linalg.solve(system.astype(np.float64), right)
    plain, ones = solved[:, :-1], solved[:, -1:]
    bias = plain.sum(axis=0) / ones.sum()
    return asked, (gram[np.ix_(asked, known)] @ (plain - ones * bias) + bias).astype(np.float64)


def _balance(support: SupportSet, rows: Ints) -> Doubles:
    """Total weight of each column in `rows` over its fair share: (K,)."""
    totals = support.weights[rows] @ support.indicator[rows]
    return np.asarray(totals / totals.mean())


def _primal_half(support: SupportSet, selected: Selected, second: npt.NDArray[np.bool_]) -> Half:
    choice = selected.choice
    fit = solve_primal(moments_of(support, choice.transform, np.flatnonzero(second)), choice.penalty)
    rows = np.flatnonzero(~second)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_ASKED)).round().astype(np.int64)]
    features = support.features(choice.transform, rows)
    return Half(rows, (features @ fit.weights.T).astype(np.float64) + fit.bias)
