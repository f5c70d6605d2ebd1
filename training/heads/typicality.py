"""How typical an input is of the support set: a smoothed conformal p-value. Knows no class probability.

Score: squared distance to the nearest class mean, hardly counting the directions in which examples of one
class differ (Mahalanobis distance with shrunk within-class covariance; Lee et al., "A simple unified
framework for detecting out-of-distribution samples", NeurIPS 2018), with the leading directions only so that
a head stays small. Typicality is the upper tail of the log scores of held-out examples, smoothed so that it
is continuous with few of them (Vovk et al., "Algorithmic learning in a random world", 2005; a kernel that
keeps the variance: Silverman, "Density estimation for statistics and data analysis", 1986).

All distances come from one Gram matrix of the examples, so holding out a fold costs no product with features.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.special import ndtr, stdtr

from training.heads.calibration import Doubles
from training.heads.folds import NEVER, Folds
from training.heads.support import Ints, SupportSet
from training.heads.transform import Floats

MAX_DIRECTIONS = 32
SHRINKAGE = 0.2
SHRINKAGE_DIMENSIONS = (
    200  # the within-class variance is shrunk towards an even spread over this many directions
)
OVERSAMPLING = 16
POWER_STEPS = 3
EXACT_LIMIT = 64  # examples up to which exact eigenvectors are cheaper than randomised ones
SMALLEST_DISTANCE = 1e-9
MAX_EXAMPLES = 1024  # directions and curve come from this many examples; class means come from all
PRIOR_SPREAD = 0.3  # deviation of log distances: 0.2 on cats_dogs, 0.4 on ham10000, 0.5 on blood_cells
PRIOR_COUNT = 3
CURVE_POINTS = 256
KNOTS = 129
NORMAL_FREEDOM = 60  # degrees of freedom from which Student's t is taken for normal
REACH_BELOW, REACH_ABOVE = 6.0, 10.0  # of the curve, in kernel widths


@dataclass(frozen=True, eq=False)
class Typicality:
    """What scoring needs.

    Attributes
    ----------
    means : (k, d) float32, class means
    directions : (r, d) float32, orthogonal; r may be 0. The squared length of an offset loses its squared
        products with them
    knots : (q,) float64 ascending, logarithms of squared distances
    values : (q,) float64 descending in [0, 1], typicality at the knots
    """

    means: Floats
    directions: Floats
    knots: Doubles
    values: Doubles


def fit_typicality(support: SupportSet, folds: Folds) -> Typicality:
    """Learn class means, within-class directions and the curve from distance to typicality."""
    classes = len(support.labels)
    rows = np.flatnonzero(np.diff(support.distinct, prepend=-1))  # each distinct input of a class once
    counts = np.bincount(support.targets[rows], minlength=classes)
    means = class_means(support.features[rows], counts)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_EXAMPLES)).round().astype(np.int64)]
    features, targets, held_in = support.features[rows], support.targets[rows], folds.assignment[rows]
    sample = _Sample(features @ features.T, targets, classes, counts)
    everything = np.arange(len(rows))
    directions = sample.loadings(everything) @ (features - means[targets])
    distances = [
        sample.distances(np.flatnonzero(held_in != fold), np.flatnonzero(held_in == fold))
        for fold in np.unique(held_in[held_in != NEVER])
    ]
    alone = np.flatnonzero(counts[targets] == 1)
    if len(alone):
        distances.append(sample.distances(everything, alone))
    knots, values = _curve(np.log(np.maximum(np.concatenate(distances), SMALLEST_DISTANCE)))
    return Typicality(means, np.ascontiguousarray(directions, dtype=np.float32), knots, values)


def class_means(features: Floats, counts: Ints) -> Floats:
    """Mean feature of each class: (k, d) float32, of rows ordered by class; counts is (k,)."""
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    sums = np.add.reduceat(features, starts, axis=0, dtype=np.float64)
    return np.asarray(sums / counts[:, None], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Examples known by their inner products: gram (n, n), targets (n,); counts (k,) of all examples."""

    gram: Floats
    targets: Ints
    classes: int
    counts: Ints

    def loadings(self, training: Ints) -> Floats:
        """Within-class directions as combinations of the residuals of `training`: (r, n)."""
        return _Means(self.gram[np.ix_(training, training)], self.targets[training], self.classes).loadings()

    def distances(self, training: Ints, asked: Ints) -> Doubles:
        """Squared distance of the rows `asked` to the nearest class mean of `training`: (h,).

        An example that is itself in `training` is not compared with its own class. A mean of few examples is
        farther from new inputs than one of all: own distances are scaled by the ratio of 1 + 1 / n.
        """
        means = _Means(self.gram[np.ix_(training, training)], self.targets[training], self.classes)
        loadings, across = means.loadings(), self.gram[np.ix_(asked, training)]
        to_means = across @ means.averaging.T
        asked_at = (across - to_means[:, means.targets]) @ loadings.T
        means_at = (means.to_examples - means.between[:, means.targets]) @ loadings.T
        distances = np.diag(self.gram)[asked, None] + np.diag(means.between) - 2 * to_means
        distances = distances.astype(np.float64) - _squared_distances(asked_at, means_at)
        rows, truth = np.arange(len(asked)), self.targets[asked]
        shrink = (1 + 1 / self.counts[truth]) / (1 + 1 / np.maximum(means.members[truth], 1))
        distances[rows, truth] *= shrink
        distances[rows[np.isin(asked, training)], truth[np.isin(asked, training)]] = np.inf
        distances[:, means.members == 0] = np.inf
        return np.asarray(distances.min(axis=1))


class _Means:
    """Class means of a training set, known by the Gram matrix (n, n) of its examples."""

    def __init__(self, gram: Floats, targets: Ints, classes: int) -> None:
        self.gram, self.targets = gram, targets
        self.members = np.bincount(targets, minlength=classes)
        self.averaging = np.zeros((classes, len(targets)), dtype=np.float32)
        self.averaging[targets, np.arange(len(targets))] = 1 / self.members[targets]
        self.to_examples = self.averaging @ gram  # inner products of means and examples: (k, n)
        self.between = self.to_examples @ self.averaging.T  # of means: (k, k)

    def loadings(self) -> Floats:
        crossed = self.to_examples[self.targets]
        residuals = self.gram - crossed - crossed.T + self.between[np.ix_(self.targets, self.targets)]
        return _directions(residuals, int((self.members > 0).sum()))


def _directions(gram: Floats, classes: int) -> Floats:
    """Combinations (r, n) of residuals with Gram matrix `gram` that give the shrunk directions."""
    freedom = len(gram) - classes
    limit = min(MAX_DIRECTIONS, freedom)
    total = float(np.trace(gram))
    if limit < 1 or total <= SMALLEST_DISTANCE:
        return np.zeros((0, len(gram)), dtype=np.float32)
    values, vectors = _leading(gram, limit)
    kept = values > SMALLEST_DISTANCE * total
    values, vectors = values[kept], vectors[:, kept]
    floor = SHRINKAGE * total / SHRINKAGE_DIMENSIONS
    strength = 1 - floor / ((1 - SHRINKAGE) * values + floor)
    return np.asarray((vectors * np.sqrt(strength / values)).T, dtype=np.float32)


def _leading(gram: Floats, limit: int) -> tuple[Doubles, Doubles]:
    """Largest eigenvalues and their vectors: exact for few examples, else by a randomised subspace iteration.

    Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 53, 2011.
    """
    if len(gram) <= EXACT_LIMIT:
        return _eigen(gram.astype(np.float64), limit)
    sketch = np.random.default_rng(0).standard_normal((len(gram), limit + OVERSAMPLING), dtype=np.float32)
    for _ in range(POWER_STEPS):
        sketch = gram @ sketch
        sketch /= np.linalg.norm(sketch, axis=0)
    frame = np.linalg.qr(sketch)[0]
    values, inner = _eigen((frame.T @ (gram @ frame)).astype(np.float64), limit)
    return values, frame @ inner


def _eigen(gram: Doubles, limit: int) -> tuple[Doubles, Doubles]:
    values, vectors = eigh(gram, driver="evd", check_finite=False)
    return values[-limit:], vectors[:, -limit:]


def _squared_distances(left: Floats | Doubles, right: Floats | Doubles) -> Doubles:
    lengths = np.vecdot(left, left)[:, None] + np.vecdot(right, right)
    return np.asarray(lengths - 2 * left @ right.T, dtype=np.float64)


def _curve(logs: Doubles) -> tuple[Doubles, Doubles]:
    """Knots of log distance and the smoothed share of held-out examples that are at least as far."""
    center, count = float(logs.mean()), len(logs)
    freedom = PRIOR_COUNT + count - 1
    spread = np.sqrt((PRIOR_COUNT * PRIOR_SPREAD**2 + float(np.sum((logs - center) ** 2))) / freedom)
    if count > CURVE_POINTS:
        logs = np.quantile(logs, (np.arange(CURVE_POINTS) + 0.5) / CURVE_POINTS)
    bandwidth = min(1.0, count**-0.25)
    shrunk = center + (logs - center) * np.sqrt(1 - bandwidth**2)
    width = spread * np.sqrt(bandwidth**2 + 1 / count)
    knots = np.linspace(shrunk.min() - REACH_BELOW * width, shrunk.max() + REACH_ABOVE * width, KNOTS)
    offsets = (shrunk[None, :] - knots[:, None]) / width
    values = (ndtr(offsets) if freedom >= NORMAL_FREEDOM else stdtr(freedom, offsets)).mean(axis=1)
    return knots, np.minimum.accumulate(np.clip(values, 0, 1))
