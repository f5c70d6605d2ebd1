"""Whether a variant of an extractor is as good as the extractor: the same images through both.

Knows rows and labels, no image and no graph.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from training.shot_accuracy import feasible_shots, measure_shots
from training.variant import GateFigures, ShotPair

Rows = NDArray[np.float32]

SHOTS = (5, 20)
SEEDS = 10
# A variant passes when every layer keeps this cosine on average, and heads lose no more than this accuracy,
# or one of the images that test them, where these are few.
LEAST_MEAN_COSINE = 0.98
MOST_LOST = 0.005


def pass_gate(
    expected: Rows,
    found: Rows,
    labels: Sequence[str],
    layer_dims: Mapping[str, int],
    *,
    seeds: int = SEEDS,
) -> GateFigures:
    """Compare the rows of a variant with those of the float extractor.

    Parameters
    ----------
    expected, found : (n, width) rows of the float extractor and of the variant, of the same images
    labels : n labels
    layer_dims : length of each layer, in the order of a row; the first is the embedding

    Raises
    ------
    SupportSetError
        The images are too few to learn from five of each class and test on others.
    """
    counts = {
        str(label): int(count) for label, count in zip(*np.unique(labels, return_counts=True), strict=True)
    }
    shots = feasible_shots(counts, SHOTS)
    ends = np.cumsum(list(layer_dims.values()))[:-1]
    layers = zip(layer_dims, np.split(expected, ends, axis=1), np.split(found, ends, axis=1), strict=True)
    cosines = {name: row_cosines(a, b) for name, a, b in layers}
    embedding, dim = next(iter(layer_dims.items()))
    accuracies = [
        measure_shots(
            np.ascontiguousarray(rows[:, :dim]), labels, extractor_digest="0" * 64, shots=shots, seeds=seeds
        )
        for rows in (expected, found)
    ]
    pairs = tuple(ShotPair(a.shots, a.mean, b.mean) for a, b in zip(*accuracies, strict=True))
    means = {name: float(values.mean()) for name, values in cosines.items()}
    return GateFigures(
        images=len(labels),
        cosines=means,
        least_cosine=float(cosines[embedding].min()),
        shots=pairs,
        seeds=seeds,
        passed=min(means.values()) >= LEAST_MEAN_COSINE
        and all(pair.fp32 - pair.variant <= _most_lost(len(labels), len(counts), pairs) for pair in pairs),
    )


def _most_lost(images: int, classes: int, pairs: Sequence[ShotPair]) -> float:
    tested = images - classes * max(pair.shots for pair in pairs)
    return max(MOST_LOST, 1 / tested)


def row_cosines(expected: Rows, found: Rows) -> NDArray[np.float64]:
    """Cosine of each row of two (n, dim) arrays with the row of the other, (n,); 0 where a row is zero."""
    a, b = expected.astype(np.float64), found.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.where(lengths > 0, lengths, np.inf))
