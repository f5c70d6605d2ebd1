"""Ridge regression on class indicators, with every held-out score in closed form. Knows no label's name.

Minimises   sum_i w_i |y_i - W'x_i - b|^2 + penalty |W|^2   over W and the unpenalised b, where y_i has a one
for each column that example i belongs to. As a classifier: Rifkin, Yeo and Poggio, "Regularized least-squares
classification", 2003; in the span of the examples it is the least-squares support vector machine. The score
of an example that was left out follows from the fit with all of them (Allen's PRESS, 1974; with an intercept:
Cawley and Talbot, "Fast exact leave-one-out cross-validation of sparse least-squares support vector
machines", Neural Networks 17, 2004).

`fit_dual` works with one (n, n) matrix, `fit_primal` with one (d, d) matrix and never holds all features.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError

from training.errors import SupportSetError
from training.heads.definite import Numbers, inverse_of, solve_definite
from training.heads.support import Doubles, Ints, SupportSet
from training.heads.transform import Floats

FEW_EACH, FEW_EACH_LIMIT = 8, 4.0
DUAL_LIMIT = 1.5  # examples for each dimension up to which the (n, n) matrix is the cheaper one
MAX_HELD_OUT = 4096  # examples that are left out in turn, of more examples than dimensions
CHUNK_ROWS = 4096
SMALL_SETS = 48  # examples left out together up to which all sets are solved for at once
# Ratio of examples to penalty up to which float32 keeps three digits of the weights.
SINGLE_PRECISION = 50_000.0
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
    fitted : (h, K) float64, scores of these examples by the fit that knows them
    held_out : (h, K) float64, scores of these examples by the fits that do not
    margin : how much higher the fit scores the labels that an example has than the others, on average
    center : (d,) float32, weighted mean of the features
    shift : (K,) float64, what `unmasked` has added to every score; None if nothing
    """

    weights: Floats
    bias: Doubles
    rows: Ints
    fitted: Doubles
    held_out: Doubles
    margin: float
    center: Floats
    shift: Doubles | None = None


def is_dual(support: SupportSet) -> bool:
    """Whether to use `fit_dual`: the cheaper one, or the one that rebalances classes of few examples."""
    examples, dimensions = len(support), support.dimensions
    few_each = support.is_single and examples < FEW_EACH * support.columns
    return bool(examples <= (FEW_EACH_LIMIT if few_each else DUAL_LIMIT) * dimensions)


@dataclass(frozen=True, eq=False)
class Span:
    """Features (n, d) float32 around their weighted mean `center` (d,), and their Gram matrix (n, n)."""

    features: Floats
    center: Floats
    gram: Floats


def span_of(support: SupportSet, transform: str) -> Span:
    """What fits in the span of the examples share, whatever their penalty."""
    features = support.features(transform)
    share = (support.weights / support.weights.sum()).astype(np.float32)
    center = np.asarray(share @ features)
    features -= center
    return Span(features, center, features @ features.T)


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
            block = self.inverse[rows][:, rows]
            block -= np.outer(sums[rows], sums[rows])
            found[place] = solve_definite(block, self.coefficients[rows])
        return found


@dataclass(frozen=True, eq=False)
class DualScores:
    """`Ridge` without its weights: what was solved, scores (n, K) of all examples, and the squared error (n,)
    of each that is held out."""

    solution: Solution
    fitted: Doubles
    held_out: Doubles
    losses: Doubles


def dual_scores(gram: Numbers, support: SupportSet, penalty: float) -> DualScores:
    """Fit in the span of the examples; n^3 multiply-adds, whatever the number of columns.

    Parameters
    ----------
    gram : (n, n), inner products of the features
    """
    shift = penalty / support.weights
    solution = _solve(gram, support, shift)
    fitted = support.indicator - solution.coefficients * shift[:, None]
    if support.is_single:
        residuals = _without_one_of_each_class(gram, support, penalty, solution)
    else:
        share = np.diagonal(solution.inverse) - solution.sums**2 / solution.sums.sum()
        residuals = solution.coefficients / np.maximum(share, SMALLEST_SHARE / shift)[:, None]
    return DualScores(
        solution=solution,
        fitted=fitted,
        held_out=support.indicator - residuals,
        losses=np.vecdot(residuals, residuals),
    )


def _solve(gram: Numbers, support: SupportSet, shift: Doubles) -> Solution:
    inverse = _inverse(gram, shift.astype(gram.dtype))
    sums = inverse.sum(axis=0).astype(np.float64)
    coefficients = support.sums_of_symmetric(inverse)
    bias = coefficients.sum(axis=0, dtype=np.float64) / sums.sum()
    coefficients -= np.outer(sums, bias).astype(coefficients.dtype)
    return Solution(inverse, sums, coefficients, bias)


def _without_one_of_each_class(
    gram: Numbers, support: SupportSet, penalty: float, solution: Solution
) -> Doubles:
    """Residuals (n, K) of examples that were left out together with one of every other class.

    Left out alone, an example would leave its class with fewer examples than the others, and a held-out score
    that leans towards those: with a few examples of pure noise, all would be called wrong. Of a small class,
    each takes several turns.
    """
    counts = support.distinct_counts
    if len(np.unique(counts[counts > 1])) > 1:
        solution = _solve(gram, support, penalty / support.held_in_weights)
    turns = support.turns()  # (f, c)
    found = solution.residuals(turns)
    residuals = np.zeros(solution.coefficients.shape)
    if turns.size == len(np.unique(turns)):
        residuals[turns] = found
        return residuals
    np.add.at(residuals, turns.ravel(), found.reshape(-1, support.columns))
    taken = np.bincount(turns.ravel(), minlength=len(residuals))
    return np.asarray(residuals / np.maximum(taken, 1)[:, None])


def fit_dual(span: Span, support: SupportSet, scores: DualScores) -> Ridge:
    """The head of scores in the span of the examples."""
    rows = np.flatnonzero(support.can_be_held_out)
    coefficients = scores.solution.coefficients.astype(np.float32, copy=False)
    weights = np.asarray(coefficients.T @ span.features)
    return Ridge(
        weights=weights,
        bias=scores.solution.bias - weights @ span.center,
        rows=rows,
        fitted=scores.fitted[rows],
        held_out=scores.held_out[rows],
        margin=margin_of(scores.fitted, support.indicator),
        center=span.center,
    )


@dataclass(frozen=True, eq=False)
class Moments:
    """Weighted sums over examples: of 1, of features (d,), of their products (d, d), and by column (K, d)."""

    weight: float
    first: Doubles
    second: Doubles
    by_column: Doubles
    column_weights: Doubles


def moments_of(support: SupportSet, transform: str, rows: Ints) -> Moments:
    """Add up `rows` (ascending) in chunks: the features of all of them never exist at once."""
    dimensions, columns = support.dimensions, support.columns
    second = np.zeros((dimensions, dimensions))
    first, by_column = np.zeros(dimensions), np.zeros((columns, dimensions))
    column_weights = np.zeros(columns)
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = rows[start : start + CHUNK_ROWS]
        features = support.features(transform, chunk)
        weights = support.weights[chunk].astype(np.float32)
        if weights.min() == weights.max():
            second += weights[0] * (features.T @ features)
        else:
            scaled = features * np.sqrt(weights)[:, None]
            second += scaled.T @ scaled
        first += weights @ features
        if support.is_single:
            present, starts = np.unique(support.targets[chunk], return_index=True)
            for column, some in zip(present, np.split(np.arange(len(chunk)), starts[1:]), strict=True):
                # One product for each class: far faster than `reduceat` along the first axis.
                by_column[column] += weights[some] @ features[some[0] : some[-1] + 1]
                column_weights[column] += weights[some].sum()
        else:
            marked = support.indicator[chunk].T * weights
            by_column += marked @ features
            column_weights += marked.sum(axis=1)
    return Moments(float(support.weights[rows].sum()), first, second, by_column, column_weights)


@dataclass(frozen=True, eq=False)
class PrimalFit:
    """A fit from moments: weights (K, d), bias (K,), center (d,), and the inverse (d, d) that gave them."""

    weights: Floats
    bias: Doubles
    center: Doubles
    inverse: Doubles
    total: float  # weight of all examples


def solve_primal(moments: Moments, penalty: float) -> PrimalFit:
    """Fit from sums over the examples; d^3 multiply-adds."""
    center = moments.first / moments.weight
    mean_indicator = moments.column_weights / moments.weight
    scatter = moments.second - moments.weight * np.outer(center, center)
    if moments.weight < SINGLE_PRECISION * penalty:
        scatter = scatter.astype(np.float32)
    inverse = _inverse(scatter, np.full(len(scatter), penalty, dtype=scatter.dtype)).astype(np.float64)
    sums = moments.by_column - np.outer(moments.column_weights, center)
    weights = np.ascontiguousarray(sums @ inverse, dtype=np.float32)
    bias = mean_indicator - weights.astype(np.float64) @ center
    return PrimalFit(weights, bias, center, inverse, moments.weight)


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
        fitted=fitted[known],
        held_out=(support.indicator[asked] - residuals)[known],
        margin=margin_of(fitted, support.indicator[asked]),
        center=fit.center.astype(np.float32),
    )


def primal_scores(support: SupportSet, transform: str, fit: PrimalFit, rows: Ints) -> tuple[Doubles, Doubles]:
    """Scores (h, K) of some rows, and their residuals (h, K) when each is left out."""
    features = support.features(transform, rows)
    fitted = (features @ fit.weights.T).astype(np.float64) + fit.bias
    features -= fit.center.astype(np.float32)
    reach = np.vecdot(features @ fit.inverse.astype(np.float32), features).astype(np.float64)
    leverage = support.weights[rows] * (reach + 1 / fit.total)
    residuals = (support.indicator[rows] - fitted) / np.maximum(1 - leverage, SMALLEST_SHARE)[:, None]
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
    targets, columns = support.targets[fit.rows], support.columns
    members = np.bincount(targets, minlength=columns)
    own = np.bincount(targets, fit.fitted[np.arange(len(targets)), targets], minlength=columns)
    own = np.where(members > 0, own / np.maximum(members, 1), own.sum() / members.sum())
    shift = UNMASKED * (own.mean() - own)
    return replace(
        fit,
        bias=fit.bias + shift,
        fitted=fit.fitted + shift,
        held_out=fit.held_out + shift,
        shift=shift,
    )


def margin_of(fitted: Doubles, indicator: npt.NDArray[np.bool_]) -> float:
    """How much higher labels score that an example has than others, on average; both (n, K)."""
    own, marks = float(np.vdot(fitted, indicator)), int(indicator.sum())
    # Of a multi-label set every example may have every label.
    return own / max(marks, 1) - (float(fitted.sum()) - own) / max(indicator.size - marks, 1)


def _inverse(matrix: Numbers, diagonal: Numbers) -> Numbers:
    """(matrix + diag(diagonal))^-1, in the precision of the matrix if that is enough."""
    try:
        return inverse_of(matrix, diagonal)
    except LinAlgError:
        if matrix.dtype == np.float32:
            return _inverse(matrix.astype(np.float64), diagonal)
    raise SupportSetError("this regularisation is too small for these embeddings; choose a larger one")
