"""How typical an input is of the support set: a smoothed conformal p-value. Knows no class probability.

Score: squared distance to the nearest class, in which the directions that separate classes and those in
which examples of one class differ are treated apart: the first compare with the nearest class centre, the
leading ones of the second hardly count (Mahalanobis distance with shrunk within-class covariance; Lee et al.,
"A simple unified framework for detecting out-of-distribution samples", NeurIPS 2018). Where an input stands
among the classes is read from its class scores, so that typicality costs a head only a few more products.
Typicality is the upper tail of the log scores of held-out examples, smoothed so that it is continuous with
few of them (Vovk et al., "Algorithmic learning in a random world", 2005; a kernel that keeps the variance:
Silverman, "Density estimation for statistics and data analysis", 1986).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from training.heads.definite import Numbers
from training.heads.moments import CHUNK_ROWS
from training.heads.selection import Selected
from training.heads.support import Doubles, Ints, SupportSet, evenly
from training.heads.transform import Floats

# A feature is multiplied with K weights, the mean and the directions: small heads can afford more of these.
FEWEST_DIRECTIONS, WEIGHTS_AND_DIRECTIONS = 3, 13
MAX_BASIS = 32
SHRINKAGE = 0.2
# The within-class variance is shrunk towards an even spread over this many directions.
SHRINKAGE_DIMENSIONS = 200
OVERSAMPLING = 12
POWER_STEPS = 3
EXACT_LIMIT = 64  # size up to which exact eigenvectors are cheaper than randomised ones
SMALLEST_DISTANCE = 1e-5  # squared; below it, features of unit length differ by rounding
SMALLEST_VARIANCE = 1e-9
SMALLEST_WEIGHT = 1e-14  # squared; the largest penalty leaves 1e-12 of a difference between classes
TINY = 1e-30
SMALLEST_SHARE = 1e-5  # of the largest eigenvalue; below it a direction is rounding
MANY_FOLDS, FEW_FOLDS = 6, 4  # up to EXACT_LIMIT examples, and beyond
MAX_EXAMPLES = 160  # directions and curve come from this many examples; means and scores come from all
PRIOR_SPREAD = 0.3  # deviation of log distances: 0.2 on cats_dogs, 0.4 on ham10000, 0.5 on blood_cells
PRIOR_COUNT = 3
KNOTS = 65
REACH_BELOW, REACH_ABOVE = 6.0, 10.0  # of the curve, in kernel widths


@dataclass(frozen=True, eq=False)
class Typicality:
    """What scoring needs.

    Attributes
    ----------
    mean : (d,) float32, of the features of all classes
    directions : (r, d) float32, orthogonal to the weights; r may be 0. The squared length of an offset from
        the mean loses its squared products with them
    basis : (K, q) float32; scores minus bias, times basis, are coordinates in the span of the weights
    origin : (q,) float64, coordinates of the mean
    centers : (c, q) float64, coordinates of the classes; c is 0 where an input can be of several
    log_range : (2,) float64, the logarithms of squared distance between which typicality falls
    values : (p,) float64 descending in [0, 1], typicality at evenly spaced points of that range
    """

    mean: Floats
    directions: Floats
    basis: Floats
    origin: Doubles
    centers: Doubles
    log_range: Doubles
    values: Doubles

    def score(self, lengths: Doubles, plain_scores: Doubles, products: Doubles) -> Floats:
        """Typicality (m,) float32 in [0, 1].

        Parameters
        ----------
        lengths : (m,) squared lengths of the features
        plain_scores : (m, K) scores without the bias
        products : (m, 1 + r) products of the features with the mean and the directions
        """
        offsets = products[:, 1:] - self.mean_position
        distances = lengths - 2 * products[:, 0] + self.mean_length - squares(offsets)
        if len(self.centers):
            gaps = plain_scores @ self.basis @ self.gap_slopes + self.gap_offsets
            distances += gaps.min(axis=1)
        else:
            distances -= squares(plain_scores @ self.basis - self.origin)
        logs = log_distances(distances)
        return np.asarray(np.interp(logs, self.knots, self.values), dtype=np.float32)

    @cached_property
    def knots(self) -> Doubles:
        """(p,), where `values` are."""
        return np.linspace(self.log_range[0], self.log_range[1], len(self.values))

    @cached_property
    def mean_length(self) -> float:
        """Squared length of the mean."""
        return float(squares(self.mean.astype(np.float64)))

    @cached_property
    def mean_position(self) -> Doubles:
        """Products of the mean with the directions: (r,)."""
        return np.asarray(self.directions.astype(np.float64) @ self.mean)

    @cached_property
    def gap_slopes(self) -> Doubles:
        """(q, c), see `gap_offsets`."""
        return np.asarray(2 * (self.origin - self.centers).T)

    @cached_property
    def gap_offsets(self) -> Doubles:
        """(c,). At coordinates z, each centre is z @ gap_slopes + gap_offsets farther than the mean.

        Both distances are squared, so that what is quadratic in z cancels.
        """
        return np.asarray(squares(self.centers) - squares(self.origin))


def fit_typicality(support: SupportSet, selected: Selected) -> Typicality:
    """Learn the mean, the directions, the class centres and the curve from distance to typicality."""
    fit, transform = selected.fit, selected.choice.transform
    positive = _positive(support)
    share = np.where(positive, support.weights, 0)
    share /= share.sum()
    mean = fit.center if positive.all() else _mean(support, transform, share)
    known = np.flatnonzero(positive[fit.rows])
    rows = fit.rows[known]
    if not len(rows):
        return _without_held_out(support, transform, share, mean)
    basis = _basis(fit.weights)
    span = basis.T @ fit.weights  # orthonormal rows: (q, d)
    origin = (span @ mean).astype(np.float64)
    held_out = _coordinates(fit.held_out, fit.bias, basis)[known]
    centers = _centers(support, transform, rows, held_out, span)
    sample = evenly(len(rows), MAX_EXAMPLES)
    rows, held_out = rows[sample], held_out[sample]
    groups = support.targets[rows] if support.is_single else np.zeros(len(rows), dtype=np.int64)
    features = _around(support, selected, rows, mean)
    inside = (_coordinates(fit.fitted[known[sample]], fit.bias, basis) - origin).astype(np.float32)
    gram = features @ features.T
    most = max(FEWEST_DIRECTIONS, WEIGHTS_AND_DIRECTIONS - support.columns)
    loadings, offsets = _directions(gram - inside @ inside.T, groups, most)
    # The mean without an example is farther from it than the mean with it.
    away = _away(share[rows])
    distances = np.diagonal(gram) * away**2 - squares((held_out - origin) * away[:, None]) - offsets
    if len(centers):
        distances += _to_centers(held_out, centers, groups, support.distinct_counts).min(axis=1)
    directions = loadings @ features - (loadings @ inside) @ span
    log_range, values = _curve(log_distances(distances))
    return Typicality(mean, np.ascontiguousarray(directions), basis, origin, centers, log_range, values)


def _around(support: SupportSet, selected: Selected, rows: Ints, mean: Floats) -> Floats:
    """Features of some rows minus the mean."""
    if selected.span is None:
        return np.asarray(support.features(selected.choice.transform, rows) - mean)
    features = selected.span.features[rows]
    return features if mean is selected.fit.center else np.asarray(features + (selected.fit.center - mean))


def _without_held_out(support: SupportSet, transform: str, share: Doubles, mean: Floats) -> Typicality:
    """One example of each class: only the distance to the mean of all is known, and hardly its spread."""
    rows = np.flatnonzero(share)
    rows = rows[evenly(len(rows), MAX_EXAMPLES)]
    offsets = (support.features(transform, rows) - mean).astype(np.float64)
    log_range, values = _curve(log_distances(squares(offsets) * _away(share[rows]) ** 2))
    dimensions, columns = len(mean), support.columns
    return Typicality(
        mean=mean,
        directions=np.zeros((0, dimensions), dtype=np.float32),
        basis=np.zeros((columns, 0), dtype=np.float32),
        origin=np.zeros(0),
        centers=np.zeros((0, 0)),
        log_range=log_range,
        values=values,
    )


def _coordinates(scores: Numbers, bias: Doubles, basis: Floats) -> Doubles:
    """Where inputs of some scores (h, K) are in the span of the weights: (h, q)."""
    plain = scores - bias.astype(scores.dtype)
    return np.asarray(plain @ basis.astype(scores.dtype, copy=False), dtype=np.float64)


def _away(share: Doubles) -> Doubles:
    """How much farther an example is from the mean of the others; one that is alone is at no distance."""
    return np.asarray(1 / np.where(share < 1, 1 - share, 1))


def _positive(support: SupportSet) -> npt.NDArray[np.bool_]:
    """The examples that others are to be like: (n,). Of several labels an input may have none, too."""
    return np.asarray(~(support.indicator[:, -1] & support.negatives))


def _mean(support: SupportSet, transform: str, share: Doubles) -> Floats:
    total = np.zeros(support.dimensions)
    for start in range(0, len(support), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        total += share[rows].astype(np.float32) @ support.features(transform, rows)
    return total.astype(np.float32)


def _basis(weights: Floats) -> Floats:
    """(K, q): from weight vectors to an orthonormal basis of the leading directions of their span."""
    values, vectors = _leading(weights @ weights.T, MAX_BASIS)
    kept = values > max(SMALLEST_SHARE * float(values[-1]), SMALLEST_WEIGHT)
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]), dtype=np.float32)


def _centers(support: SupportSet, transform: str, rows: Ints, held_out: Doubles, span: Floats) -> Doubles:
    """Coordinates of the classes, from held-out scores where there are some.

    None of a multi-label set, and none if the weights vanish.
    """
    classes = support.columns - support.negatives
    if not support.is_single or not len(span):
        return np.zeros((0, len(span)))
    targets = support.targets[rows]
    members = np.bincount(targets, minlength=classes)
    centers = np.zeros((classes, len(span)))
    present = np.flatnonzero(members)
    starts = np.searchsorted(targets, present)
    centers[present] = np.add.reduceat(held_out, starts, axis=0) / members[present, None]
    alone = np.flatnonzero(members == 0)
    if len(alone):
        first = np.searchsorted(support.targets, alone)
        centers[alone] = support.features(transform, first) @ span.T
    return centers


def _to_centers(held_out: Doubles, centers: Doubles, groups: Ints, counts: Ints) -> Doubles:
    """Squared distances (m, c), an example's own centre taken without it."""
    distances = squares(held_out)[:, None] - 2 * held_out @ centers.T + squares(centers)
    np.maximum(distances, 0, out=distances)
    own = np.arange(len(groups)), groups
    distances[own] *= (counts[groups] / np.maximum(counts[groups] - 1, 1)) ** 2
    return distances


def _directions(outside: Floats, groups: Ints, most: int) -> tuple[Floats, Doubles]:
    """The shrunk within-class directions, and how far each example reaches along those of the other folds.

    Parameters
    ----------
    outside : (n, n) inner products of the examples, without what they have in the span of the weights
    groups : (n,) class of each, ascending
    most : directions at the most

    Returns
    -------
    (r, n) combinations of examples, and (n,) squared lengths. The folds and the whole are worked on at once.
    """
    count = len(groups)
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    if len(starts) == count:  # nothing is known of how examples of one class differ
        return np.zeros((0, count), dtype=np.float32), np.zeros(count)
    sums = np.add.reduceat(np.eye(count, dtype=np.float32), starts, axis=0)  # (g, n)
    group_of = np.repeat(np.arange(len(starts)), np.diff(starts, append=count))
    folds = MANY_FOLDS if count <= EXACT_LIMIT else FEW_FOLDS
    training = np.arange(count) % folds != np.arange(folds + 1)[:, None]  # the last row has all: (f, n)
    training[-1] = True
    masks = training.astype(np.float32)
    averaging = sums * masks[:, None, :]  # (f, g, n)
    averaging /= np.maximum(averaging.sum(axis=2, keepdims=True), 1)
    to_rows = outside - (averaging @ outside)[:, group_of, :]
    centered = to_rows - (to_rows @ averaging.transpose(0, 2, 1))[:, :, group_of]
    within = centered * masks[:, :, None] * masks[:, None, :]
    totals = np.maximum(np.trace(within, axis1=1, axis2=2), 0)
    values, vectors = _leading(within, min(most, max(count - len(starts), 0)))
    floor = SHRINKAGE * totals[:, None] / SHRINKAGE_DIMENSIONS
    usable = values > np.maximum(SMALLEST_SHARE * totals[:, None], SMALLEST_VARIANCE)
    values = np.where(usable, values, 1)
    scale = np.where(usable, (1 - floor / ((1 - SHRINKAGE) * values + floor)) / values, 0)
    # The vectors are combinations of centred examples, so of the examples themselves: centred, they stay.
    loadings = (vectors * np.sqrt(scale)[:, None, :]).astype(np.float32)
    lengths = squares(outside @ loadings[:-1])  # of every example by every fold: (f, n)
    return np.ascontiguousarray(loadings[-1].T), np.asarray(lengths.T[~training[:-1].T], dtype=np.float64)


def _leading(grams: Floats, limit: int) -> tuple[Doubles, Doubles]:
    """Largest eigenvalues (..., r), ascending, of matrices (..., n, n), and their vectors (..., n, r).

    Exact for small ones, else by a randomised subspace iteration (Halko, Martinsson and Tropp, "Finding
    structure with randomness", SIAM Review 53, 2011).
    """
    size = grams.shape[-1]
    limit = min(limit, size)
    if size <= EXACT_LIMIT:
        values, vectors = np.linalg.eigh(grams.astype(np.float64))
        return values[..., size - limit :], vectors[..., size - limit :]
    sketch = np.random.default_rng(0).standard_normal((size, limit + OVERSAMPLING), dtype=np.float32)
    for _ in range(POWER_STEPS):
        sketch = grams @ sketch
        sketch /= np.maximum(np.linalg.norm(sketch, axis=-2, keepdims=True), TINY)
    frame = np.linalg.qr(sketch)[0]
    values, inner = np.linalg.eigh((np.swapaxes(frame, -1, -2) @ (grams @ frame)).astype(np.float64))
    return values[..., inner.shape[-1] - limit :], (frame @ inner)[..., inner.shape[-1] - limit :]


def squares(vectors: npt.NDArray[np.floating]) -> Doubles:
    """Squared lengths over the last axis."""
    return np.asarray(np.vecdot(vectors, vectors), dtype=np.float64)


def log_distances(distances: Doubles) -> Doubles:
    """Logarithms of squared distances, which rounding may have made a little negative."""
    return np.asarray(np.log(np.maximum(distances, SMALLEST_DISTANCE)))


def _curve(logs: Doubles) -> tuple[Doubles, Doubles]:
    """Ends of a range of log distances; within it the smoothed share of held-out examples at least as far."""
    center, count = float(logs.mean()), len(logs)
    freedom = PRIOR_COUNT + count - 1
    spread = np.sqrt((PRIOR_COUNT * PRIOR_SPREAD**2 + float(np.sum((logs - center) ** 2))) / freedom)
    bandwidth = min(1.0, count ** (-1 / 3))
    shrunk = center + (logs - center) * np.sqrt(1 - bandwidth**2)
    width = spread * np.sqrt(bandwidth**2 + 1 / count)
    knots = np.linspace(shrunk.min() - REACH_BELOW * width, shrunk.max() + REACH_ABOVE * width, KNOTS)
    offsets = (shrunk[None, :] - knots[:, None]) / width
    # Student's t by its normal approximation (Abramowitz and Stegun, 26.7.8): within .002, and far cheaper.
    offsets *= (1 - 1 / (4 * freedom)) / np.sqrt(1 + offsets**2 / (2 * freedom))
    return knots[[0, -1]], np.minimum.accumulate(ndtr(offsets).mean(axis=1))
