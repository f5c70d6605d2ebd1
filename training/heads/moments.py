"""Sums over examples from which a fit in feature space follows. Knows no penalty and no score."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from training.heads.support import Doubles, Ints, SupportSet
from training.heads.transform import Floats

CHUNK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Moments:
    """Weighted sums over examples: of 1, of features (d,), of their products (d, d), and by column (K, d)."""

    weight: float
    first: Doubles
    second: Doubles
    by_column: Doubles
    column_weights: Doubles

    def __add__(self, other: "Moments") -> "Moments":
        """Of the examples of both."""
        return Moments(
            self.weight + other.weight,
            self.first + other.first,
            self.second + other.second,
            self.by_column + other.by_column,
            self.column_weights + other.column_weights,
        )


def moments_of(support: SupportSet, transform: str, rows: Ints) -> Moments:
    """Add up `rows` (ascending) in chunks: the features of all of them never exist at once."""
    dimensions, columns = support.dimensions, support.columns
    second = np.zeros((dimensions, dimensions))
    first, by_column = np.zeros(dimensions), np.zeros((columns, dimensions))
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = rows[start : start + CHUNK_ROWS]
        features = support.features(transform, chunk)
        weights = support.weights[chunk].astype(np.float32)
        first += weights @ features
        _add_by_column(by_column, features, weights, support, chunk)
        if weights.min() < weights.max():
            features *= np.sqrt(weights)[:, None]
            weights = np.ones(1, dtype=np.float32)
        # By numpy, which computes half of it: its threads still spin after the product above, and scipy's
        # library has its own, which would wait for the same cores (1.7 times as slow on two).
        products = features.T @ features
        products *= weights[0]
        second += products
    column_weights = support.weights[rows] @ support.indicator[rows]
    return Moments(float(support.weights[rows].sum()), first, second, by_column, column_weights)


def _add_by_column(
    by_column: Doubles, features: Floats, weights: Floats, support: SupportSet, chunk: Ints
) -> None:
    """Add the weighted features of a chunk (ascending rows) to the sums (K, d) of its columns."""
    if not support.is_single:
        by_column += (support.indicator[chunk].T * weights) @ features
        return
    targets = support.targets[chunk]
    low, high = int(targets[0]), int(targets[-1]) + 1
    ends = np.searchsorted(targets, np.arange(low, high + 1))
    # `reduceat` along the first axis takes fifty times as long as a product with a sparse matrix.
    by_column[low:high] += csr_array((weights, np.arange(len(chunk)), ends)) @ features
