"""Accuracy of heads at several numbers of examples, on images that are in no support set.

Knows embeddings and labels, no image and no extractor.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from training.errors import SupportSetError
from training.heads import FitOptions, fit_head
from training.heads.figures import NORMAL_95

Ints = NDArray[np.int64]
Tell = Callable[[float], None]

LEAST_TEST = 3  # images of each class that no support set has


@dataclass(frozen=True)
class ShotAccuracy:
    """Accuracy with `shots` examples of each class: mean recall over the classes, each counting the same.

    `mean` is over `seeds` draws of the examples; `low` to `high` is its 95 % interval, which covers the
    draw of the examples and that of the test images.
    """

    shots: int
    mean: float
    low: float
    high: float
    seeds: int


def feasible_shots(counts: Mapping[str, int], shots: Sequence[int]) -> tuple[int, ...]:
    """Those of `shots`, ascending, for which every class also has images to test with.

    Raises
    ------
    SupportSetError
        There are none; the message names the smallest class.
    """
    smallest = min(counts, key=lambda label: counts[label])
    kept = tuple(sorted({count for count in shots if count + LEAST_TEST <= counts[smallest]}))
    if not kept:
        raise SupportSetError(
            f"expected at least {min(shots) + LEAST_TEST} images of each class ({min(shots)} to learn from "
            f"and {LEAST_TEST} to test with), found {counts[smallest]} of {smallest}"
        )
    return kept


def measure_shots(
    embeddings: NDArray[np.float32],
    labels: Sequence[str],
    *,
    extractor_digest: str,
    shots: Sequence[int],
    seeds: int,
    tell: Tell | None = None,
) -> tuple[ShotAccuracy, ...]:
    """Fit and test a head for each number of examples and each seed.

    The splits depend on the labels, the greatest number and the seed alone: the same for every extractor. In
    one split the examples of a smaller number are among those of a greater one, and the test images are
    the same.

    Parameters
    ----------
    embeddings : (n, d) float32
    labels : n labels
    shots : numbers of examples of each class, all feasible (see `feasible_shots`)
    seeds : number of splits, two at least
    tell : called with the fraction (0 to 1) that is done

    Raises
    ------
    SupportSetError
        A head cannot be fitted, as with embeddings that are not finite.
    """
    names = np.array(labels)
    classes = np.unique(names)
    recalls = np.zeros((len(shots), seeds, len(classes)))
    for seed in range(seeds):
        drawn, test = _split(names, max(shots), seed)
        for row, count in enumerate(shots):
            support = drawn[:, :count].ravel()
            options = FitOptions(seed=seed)
            head = fit_head(
                embeddings[support],
                names[support].tolist(),
                extractor_digest=extractor_digest,
                options=options,
            )
            right = np.array(head.predict(embeddings[test]).labels) == names[test]
            recalls[row, seed] = [right[names[test] == label].mean() for label in classes]
            if tell is not None:
                tell((seed * len(shots) + row + 1) / (seeds * len(shots)))
    tested = np.array([np.count_nonzero(names == label) - max(shots) for label in classes])
    return tuple(_accuracy(count, found, tested) for count, found in zip(shots, recalls, strict=True))


def _split(names: NDArray[np.str_], most: int, seed: int) -> tuple[Ints, Ints]:
    """Rows of `most` examples of each class in random order, (k, most), and all others."""
    generator = np.random.default_rng(seed)
    members = [generator.permutation(np.flatnonzero(names == label)) for label in np.unique(names)]
    return np.stack([rows[:most] for rows in members]), np.concatenate([rows[most:] for rows in members])


def _accuracy(shots: int, recalls: NDArray[np.float64], tested: Ints) -> ShotAccuracy:
    """From the recall of each class in each split, (seeds, k), and the test images of each class, (k,)."""
    seeds, classes = recalls.shape
    mean = float(recalls.mean())
    # One right and one wrong answer more (Agresti and Coull, 1998): all right is not certainty.
    share = (recalls.mean(axis=0) * tested + 1) / (tested + 2)
    variance = NORMAL_95**2 * float((share * (1 - share) / (tested + 2)).sum()) / classes**2
    quantile = float(stdtrit(seeds - 1, 0.975))
    variance += quantile**2 * float(recalls.mean(axis=1).var(ddof=1)) / seeds
    half = sqrt(variance)
    return ShotAccuracy(shots, mean, max(0.0, mean - half), min(1.0, mean + half), seeds)
