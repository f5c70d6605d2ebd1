"""Ridge regression on class indicators, with every held-out score in closed form. Knows no label's name.

Minimises   sum_i w_i |y_i - W'x_i - b|^2 + penalty |W|^2   over W and the unpenalised b, where y_i has a one
for each column that example i belongs to. As a classifier: Rifkin, Yeo and Poggio, "Regularized least-squares
classification", 2003; in the span of the examples it is the least-squares support vector machine. The score
of an example that was left out follows from the fit with all of them (Allen's PRESS, 1974; with an intercept:
Cawley and Talbot, "Fast exact leave-one-out cross-validation of sparse least-squares support vector
machines", Neural Networks 17, 2004).

`fit_dual` works with one (n, n) matrix, `fit_primal` with one (d, d) matrix and never holds all features.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError

from training.errors import SupportSetError
from training.heads.definite import (
    Numbers,
    gram_of,
    inverse_factor,
    inverse_of,
    inverse_times,
    multiplied,
    solve_definite,
)
from training.heads.moments import Moments
from training.heads.support import Doubles, Ints, SupportSet
from training.heads.threads import one_thread_for
from training.heads.transform import Floats

FEW_EACH, FEW_EACH_LIMIT = 8, 4.0
DUAL_LIMIT = 1.5  # examples for each dimension up to which the (n, n) matrix is the cheaper one
MAX_HELD_OUT = 4096  # examples that are left out in turn, of more examples than dimensions
SMALL_SETS = 48  # examples left out together up to which all sets are solved for at once
# Ratio of examples to penalty up to which float32 keeps three digits of the weights.
SINGLE_PRECISION = 50_000.0
# Penalty up to which float32 keeps three digits of the differences between the scores of an example.
SINGLE_SCORES = 1000.0
SMALLEST_SHARE = (
    1e-6  # of an example's leverage that is left for others: below it nothing is known without it
)

UNMASKED = 0.25  # of a class's score at its mean (docs/experiments.md)


@dataclass(frozen=True, eq=False)
class Ridge:
    """A fit, and what it says of examples that it was fitted without.

    Attributes
    ----------
    weights : (K, d) float32; bias : (K,) float64; scores are features @ weights.T + bias
    rows : (h,) int64, the examples that were left out in turn
    fitted : (h, K), scores of these examples by the fit that knows them; float64 where float32 will not do
    held_out : (h, K), scores of these examples by the fits that do not
    margin : how much higher the fit scores the labels that an example has than the others, on average
    center : (d,) float32, weighted mean of the features
    own : (K,) float64, mean score of each class on all its own examples, where they were not all held out
    shift : (K,) float64, what `unmasked` has added to every score; None if nothing
    """

    weights: Floats
    bias: Doubles
    rows: Ints
    fitted: Numbers
    held_out: Numbers
    margin: float
    center: Floats
    own: Doubles | None = None
    shift: Doubles | None = None


def is_dual(support: SupportSet) -> bool:
    """Whether to use `fit_dual`: the cheaper one, or the one that rebalances classes of few examples."""
    examples, dimensions = len(support), support.dimensions
    few_each = support.is_single and examples < FEW_EACH * support.columns
    return bool(examples <= (FEW_EACH_LIMIT if few_each else DUAL_LIMIT) * dimensions)


@dataclass(frozen=True, eq=False)
class Span:
    """Features (n, d) float32 around their weighted mean `center` (d,), and their Gram matrix (n, n), of
    which the part below the diagonal is left zero."""

    features: Floats
    center: Floats
    gram: Floats


def span_of(support: SupportSet, transform: str) -> Span:
    """What fits in the span of the examples share, whatever their penalty."""
    features = support.features(transform)
    share = (support.weights / support.weights.sum()).astype(np.float32)
    center = np.asarray(share @ features)
    features -= center
    return Span(features, center, gram_of(features))


@dataclass(frozen=True, eq=False)
class Solution:
    """Inverse (n, n) of Gram matrix and penalty, its sums (n,), and the coefficients (n, K) and bias (K,)."""

    inverse: Numbers
    sums: Doubles
    coefficients: Numbers
    bias: Doubles

    def residuals(self, sets: Ints) -> Numbers:
        """Residuals (f, c, K) of sets of examples (f, c), each by the fit without all of its set.

        A set needs its own block of the inverse only. Solved in the precision of the inverse: two digits of a
        held-out score would be enough.
        """
        sums = (self.sums / np.sqrt(self.sums.sum())).astype(self.inverse.dtype)
        if sets.shape[1] <= SMALL_SETS:
            blocks = self.inverse[sets[:, :, None], sets[:, None, :]]
            return np.linalg.solve(
                blocks - sums[sets][:, :, None] * sums[sets][:, None, :], self.coefficients[sets]
            )
        found = np.empty((*sets.shape, self.coefficients.shape[1]), dtype=sums.dtype)
        for place, rows in enumerate(sets):
            block = self.inverse[np.ix_(rows, rows)]
            block -= np.outer(sums[rows], sums[rows])
            found[place] = solve_definite(block, self.coefficients[rows])
        return found


@dataclass(frozen=True, eq=False)
class DualScores:
    """`Ridge` without its weights: what was solved, and scores (n, K) of all examples."""

    solution: Solution
    fitted: Numbers
    held_out: Numbers

    def losses(self, support: SupportSet) -> Doubles:
        """Squared error (n,) of each example that is held out, 0 of the others."""
        residuals = support.indicator_less(self.held_out)
        return np.asarray(np.vecdot(residuals, residuals), dtype=np.float64)


def dual_scores(gram: Numbers, support: SupportSet, penalty: float) -> DualScores:
    """Fit in the span of the examples; n^3 multiply-adds, whatever the number of columns.

    Parameters
    ----------
    gram : (n, n), inner products of the features; what is below its diagonal is not read
    """
    shift = penalty / support.weights
    solution = _solve(gram, support, shift)
    if support.is_single:
        residuals = _without_one_of_each_class(gram, support, penalty, solution)
    else:
        share = np.diagonal(solution.inverse) - solution.sums**2 / solution.sums.sum()
        residuals = solution.coefficients / np.maximum(share, SMALLEST_SHARE / shift)[:, None]
    return DualScores(
        solution=solution,
        fitted=support.indicator_less(solution.coefficients * shift[:, None].astype(gram.dtype)),
        held_out=support.indicator_less(residuals),
    )


def _solve(gram: Numbers, support: SupportSet, shift: Doubles) -> Solution:
    inverse = _as_precise(inverse_of, gram, shift.astype(gram.dtype))
    coefficients = support.sums_of_symmetric(inverse)
    sums = coefficients.sum(axis=1) if support.is_single else inverse.sum(axis=0)
    bias = support.sums(sums[None, :].astype(np.float64))[0] / sums.sum(dtype=np.float64)
    coefficients -= np.outer(sums, bias.astype(sums.dtype))
    return Solution(inverse, sums.astype(np.float64), coefficients, bias)


def _without_one_of_each_class(
    gram: Numbers, support: SupportSet, penalty: float, solution: Solution
) -> Numbers:
    """Residuals (n, K) of examples that were left out together with one of every other class.

    Left out alone, an example would leave its class with fewer examples than the others, and a held-out score
    that leans towards those: with a few examples of pure noise, all would be called wrong. Of a small class,
    each takes several turns.
    """
    counts = support.distinct_counts
    several = counts[counts > 1]
    if len(several) and several.min() < several.max():
        solution = _solve(gram, support, penalty / support.held_in_weights)
    turns = support.turns()  # (f, c)
    found = solution.residuals(turns)
    residuals = np.zeros_like(solution.coefficients)
    taken = np.bincount(turns.ravel(), minlength=len(residuals))
    if taken.max(initial=0) <= 1:
        residuals[turns] = found
        return residuals
    np.add.at(residuals, turns.ravel(), found.reshape(-1, support.columns))
    residuals /= np.maximum(taken, 1)[:, None].astype(residuals.dtype)
    return residuals


def fit_dual(span: Span, support: SupportSet, scores: DualScores) -> Ridge:
    """The head of scores in the span of the examples."""
    known = support.can_be_held_out
    coefficients = scores.solution.coefficients.astype(np.float32, copy=False)
    weights = np.asarray(coefficients.T @ span.features)
    return Ridge(
        weights=weights,
        bias=scores.solution.bias - weights @ span.center,
        rows=np.flatnonzero(known),
        fitted=_those(scores.fitted, known),
        held_out=_those(scores.held_out, known),
        margin=margin_of(scores.fitted, support.indicator),
        center=span.center,
    )


def _those(values: Numbers, known: npt.NDArray[np.bool_]) -> Numbers:
    """Some rows; no copy of all."""
    return values if known.all() else values[known]


@dataclass(frozen=True, eq=False)
class PrimalFit:
    """A fit from moments: weights (K, d), bias (K,), center (d,), and the factor (d, d) of the inverse."""

    weights: Floats
    bias: Doubles
    center: Doubles
    factor: Numbers
    total: float  # weight of all examples
    penalty: float


def solve_primal(moments: Moments, penalty: float) -> PrimalFit:
    """Fit from sums over the examples; d^3 multiply-adds."""
    factor, sums, center = _system(moments, penalty)
    weights = inverse_times(factor, sums).astype(np.float32, copy=False)
    bias = moments.column_weights / moments.weight - weights.astype(np.float64) @ center
    return PrimalFit(weights, bias, center, factor, moments.weight, penalty)


def scores_from(moments: Moments, penalty: float, features: Floats) -> Numbers:
    """Scores (h, K) of features (h, d) by the fit to these moments; they are lost."""
    factor, sums, center = _system(moments, penalty)
    features -= center.astype(np.float32)
    asked = features.astype(factor.dtype, copy=False)
    if len(asked) < len(sums):
        scores = inverse_times(factor, asked) @ sums.T
    else:
        scores = asked @ inverse_times(factor, sums).T
    return np.asarray(scores + (moments.column_weights / moments.weight).astype(scores.dtype))


def _system(moments: Moments, penalty: float) -> tuple[Numbers, Numbers, Doubles]:
    """The factor (d, d) of the inverse of scatter and penalty, and the sums (K, d) around the mean, in the
    precision that is needed; and the mean (d,)."""
    center = moments.first / moments.weight
    scatter = moments.second - np.outer(moments.weight * center, center)
    if moments.weight < SINGLE_PRECISION * penalty:
        scatter = scatter.astype(np.float32)
    with one_thread_for(len(scatter)):
        factor = _as_precise(inverse_factor, scatter, np.full(len(scatter), penalty, dtype=scatter.dtype))
    sums = moments.by_column - np.outer(moments.column_weights, center)
    return factor, sums.astype(factor.dtype, copy=False), center


def fit_primal(support: SupportSet, transform: str, penalty: float, moments: Moments) -> Ridge:
    """Fit in feature space, for more examples than dimensions."""
    fit = solve_primal(moments, penalty)
    asked = support.spread(MAX_HELD_OUT)
    fitted, residuals = primal_scores(support, transform, fit, asked)
    known = support.can_be_held_out[asked]
    return Ridge(
        weights=fit.weights,
        bias=fit.bias,
        rows=asked[known],
        fitted=_those(fitted, known),
        held_out=_those(support.indicator_less(residuals, asked), known),
        margin=margin_of(fitted, support.indicator[asked]),
        center=fit.center.astype(np.float32),
        own=fit.bias + np.vecdot(fit.weights, moments.by_column) / moments.column_weights
        if support.is_single
        else None,
    )


def primal_scores(support: SupportSet, transform: str, fit: PrimalFit, rows: Ints) -> tuple[Numbers, Numbers]:
    """Scores (h, K) of some rows, and their residuals (h, K) when each is left out."""
    features = support.features(transform, rows)
    precision = np.float32 if fit.penalty <= SINGLE_SCORES else np.float64
    fitted: Numbers = (features @ fit.weights.T).astype(precision, copy=False)
    fitted += fit.bias.astype(precision)
    features -= fit.center.astype(np.float32)
    within = multiplied(fit.factor.astype(np.float32, copy=False), features, overwrite=True)
    reach = np.vecdot(within, within).astype(np.float64)
    leverage = support.weights[rows] * (reach + 1 / fit.total)
    residuals = support.indicator_less(fitted, rows)
    residuals /= np.maximum(1 - leverage, SMALLEST_SHARE)[:, None].astype(precision)
    return fitted, residuals


def unmasked(fit: Ridge, support: SupportSet) -> Ridge:
    """The fit with every class a little more in view that scores low on its own examples.

    Indicators of many classes are hard to fit: classes between others never score highest, they are masked
    (Hastie, Tibshirani and Buja, "Flexible discriminant analysis by optimal scoring", JASA 89, 1994).
    Discriminant analysis subtracts half of each class's score at its mean; half of that is enough, and with
    few classes, which all of it would harm, changes next to nothing.
    """
    if not support.is_single or not len(fit.rows):
        return fit
    own = _own_means(fit, support) if fit.own is None else fit.own
    shift = UNMASKED * (own.mean() - own)
    return replace(
        fit,
        bias=fit.bias + shift,
        fitted=fit.fitted + shift.astype(fit.fitted.dtype),
        held_out=fit.held_out + shift.astype(fit.held_out.dtype),
        shift=shift,
    )


def _own_means(fit: Ridge, support: SupportSet) -> Doubles:
    """Mean score (K,) of each class on its own held-out examples, by the fit that knows them."""
    targets, columns = support.targets[fit.rows], support.columns
    members = np.bincount(targets, minlength=columns)
    own = np.bincount(targets, fit.fitted[np.arange(len(targets)), targets], minlength=columns)
    return np.where(members > 0, own / np.maximum(members, 1), own.sum() / members.sum())


def margin_of(fitted: Numbers, indicator: npt.NDArray[np.bool_]) -> float:
    """How much higher labels score that an example has than others, on average; both (n, K)."""
    own, marks = float(fitted[indicator].sum(dtype=np.float64)), int(np.count_nonzero(indicator))
    total = float(fitted.sum(axis=1).sum(dtype=np.float64))
    # Of a multi-label set every example may have every label.
    return own / max(marks, 1) - (total - own) / max(indicator.size - marks, 1)


def _as_precise(found: Callable[[Numbers, Numbers], Numbers], matrix: Numbers, diagonal: Numbers) -> Numbers:
    """What is found of matrix + diag(diagonal), in the precision of the matrix if that is enough."""
    try:
        return found(matrix, diagonal)
    except LinAlgError:
        if matrix.dtype == np.float32:
            return _as_precise(found, matrix.astype(np.float64), diagonal)
    raise SupportSetError("this regularisation is too small for these embeddings; choose a larger one")
