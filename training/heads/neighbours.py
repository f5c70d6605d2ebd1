"""Nearest neighbours among the examples of a support set, and which of them are copies of each other.

Knows no score of a fit. Memory is bounded whatever the number of examples; time is quadratic in it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from training.heads.support import Doubles, Ints, SupportSet
from training.heads.transform import Floats

NEIGHBOURS = 3
BLOCK_VALUES = 16_000_000  # similarities that exist at once
# Cosine from which two inputs are copies, whatever else is there: different images reach .9665 (blood_cells),
# a JPEG at quality 75 .99 on photographs.
SURE_COPY = 0.99
# Below, a copy is much closer than the third nearest is: cosine distance at most this share of it. Finds most
# photographs at 80 % size or cropped by 1 or 2 %, half of such blood cells, and takes 1 in 2,000 pairs of
# few, alike images for copies (docs/experiments.md).
LIKELY_COPY, COPY_RATIO = 0.95, 0.3


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The q = min(3, n - 1) nearest others of each row: (n, q) int64, and their cosines (n, q) float64."""

    rows: Ints
    cosines: Doubles


def find_neighbours(features: Floats) -> Neighbours:
    """Nearest neighbours by cosine, n^2 d multiply-adds; no more than `BLOCK_VALUES` cosines are held.

    Parameters
    ----------
    features : (n, d) float32 of unit length
    """
    count = len(features)
    nearest = min(NEIGHBOURS, count - 1)
    rows = np.zeros((count, nearest), dtype=np.int64)
    cosines = np.zeros((count, nearest))
    size = max(1, BLOCK_VALUES // count)
    for start in range(0, count, size):
        block = features[start : start + size] @ features.T
        inside = np.arange(len(block))
        block[inside, start + inside] = -np.inf
        for place in range(nearest):
            found = block.argmax(axis=1)
            rows[start + inside, place] = found
            cosines[start + inside, place] = block[inside, found]
            block[inside, found] = -np.inf
    return Neighbours(rows, np.clip(cosines, -1, 1))


@dataclass(frozen=True)
class Copies:
    """Rows of a support set that are copies of each other, and the lowest cosine that links them."""

    rows: tuple[int, ...]
    similarity: float


def find_copies(support: SupportSet, neighbours: Neighbours) -> Iterator[Copies]:
    """Groups of (almost) equal embeddings; a single row that was given more than once is a group too."""
    here = np.repeat(np.arange(len(support)), neighbours.rows.shape[1])
    there, linked = neighbours.rows.ravel(), _are_copies(neighbours).ravel()
    links = coo_array((linked[linked], (here[linked], there[linked])), shape=(len(support), len(support)))
    groups = connected_components(links, directed=False)[1]
    similarity = np.ones(len(support))
    np.minimum.at(similarity, groups[here[linked]], neighbours.cosines.ravel()[linked])
    order = np.argsort(groups, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        if len(rows) > 1 or support.multiplicity[rows[0]] > 1:
            yield Copies(tuple(rows.tolist()), float(similarity[groups[rows[0]]]))


def _are_copies(neighbours: Neighbours) -> npt.NDArray[np.bool_]:
    """Whether each neighbour is a copy: (n, q)."""
    cosines = neighbours.cosines
    if cosines.shape[1] < NEIGHBOURS:
        return np.asarray(cosines >= SURE_COPY)
    scales = 1 - cosines[:, -1]
    both = np.minimum(scales[:, None], scales[neighbours.rows])
    likely = (cosines >= LIKELY_COPY) & (1 - cosines <= COPY_RATIO * both)
    return np.asarray((cosines >= SURE_COPY) | likely)
