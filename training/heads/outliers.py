"""How unlike all classes an example is, held out. Knows no fit: an outlier would bend it towards itself.

The cosine to the nearest class mean, taken without the example. On real sets with images of other sets under
its labels this ranks those better than the typicality of heads that were fitted without a fifth of the
examples, and unlike distances to a few nearest neighbours it is not fooled by outliers that come in a group
(docs/experiments.md).
"""

import numpy as np
from scipy.special import ndtr

from training.heads.moments import CHUNK_ROWS
from training.heads.support import Doubles, SupportSet
from training.heads.transform import Floats

SMALLEST_LENGTH = 1e-6  # squared, of a sum of unit vectors; below it there is no mean
SMALLEST_DISTANCE = 1e-9
UPPER_QUARTILE = 0.6744897501960817  # of the normal distribution, in deviations
PRIOR_SPREAD, PRIOR_COUNT = 0.2, 3  # of log distances: 0.1 on cats_dogs, 0.3 on ham10000


def held_out_typicality(features: Floats, support: SupportSet) -> Doubles:
    """About the share of examples that are farther from their nearest class mean: (n,) in [0, 1].

    The upper tail of a normal distribution of log distances that meets their median and upper quartile, so
    that the outliers do not widen it. Examples that the extractor was trained on are nearer than others are,
    so those do not count where there are such.

    Parameters
    ----------
    features : (n, d) float32 of unit length, of the support set's examples
    """
    logs = np.log(np.maximum(1 - _nearest_mean(features, support), SMALLEST_DISTANCE))
    usual = logs
    if support.unseen is not None and support.unseen.any():
        usual = logs[support.unseen]
    middle, upper = np.quantile(usual, (0.5, 0.75))
    found = ((upper - middle) / UPPER_QUARTILE) ** 2
    spread = np.sqrt((PRIOR_COUNT * PRIOR_SPREAD**2 + len(usual) * found) / (PRIOR_COUNT + len(usual)))
    return np.asarray(ndtr((middle - logs) / spread))


def _nearest_mean(features: Floats, support: SupportSet) -> Doubles:
    """Cosine (n,) of each example to the nearest mean of a column, which is taken without the example."""
    sums = support.sums(features.T).T.astype(np.float64)  # (K, d)
    lengths = np.vecdot(sums, sums)
    nearest = np.empty(len(features))
    for start in range(0, len(features), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        products = features[rows].astype(np.float64) @ sums.T
        own = support.indicator[rows] * np.vecdot(features[rows], features[rows])[:, None]
        squared = lengths - support.indicator[rows] * 2 * products + own
        cosines = (products - own) / np.sqrt(np.maximum(squared, SMALLEST_LENGTH))
        nearest[rows] = np.where(squared > SMALLEST_LENGTH, cosines, -1).max(axis=1)
    return np.clip(nearest, -1, 1)
