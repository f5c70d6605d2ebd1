"""Scores -> probabilities that can be trusted: a temperature, and what measures it. Knows no feature.

Temperature scaling (Guo et al., "On calibration of modern neural networks", ICML 2017) on held-out scores.
With few examples the held-out scores say little, so log(1 / temperature) has a normal prior and the fit is
its posterior mode; with no held-out score it is the prior's mode.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.heads.support import Ints

Doubles = npt.NDArray[np.float64]
NEWTON_STEPS = 50
LARGEST_STEP = 1.0
CONVERGED = 1e-9
EXAMPLES_PER_BIN = 10
MAX_BINS = 15


@dataclass(frozen=True)
class SharpnessPrior:
    """Normal prior of log(1 / temperature)."""

    center: float
    deviation: float


def fit_temperature(scores: Doubles, targets: Ints, weights: Doubles, prior: SharpnessPrior) -> float:
    """The temperature that makes held-out scores most probable, given the prior.

    Parameters
    ----------
    scores : (n, k) float64, held-out, n may be 0
    targets : (n,) int64
    weights : (n,) float64

    Returns
    -------
    Temperature > 0; probabilities are softmax(scores / temperature).
    """
    at, precision = prior.center, prior.deviation**-2
    scores = scores - scores.max(axis=1, keepdims=True, initial=-np.inf)
    own = scores[np.arange(len(targets)), targets]
    for _ in range(NEWTON_STEPS):
        sharpness = np.exp(at)
        odds = np.exp(sharpness * scores)
        odds /= odds.sum(axis=1, keepdims=True)
        mean = (odds * scores).sum(axis=1)
        variance = np.maximum((odds * scores**2).sum(axis=1) - mean**2, 0)
        pull = sharpness * float(weights @ (mean - own))
        slope = pull + precision * (at - prior.center)
        # Never a negative curvature: the loss is convex in the sharpness, not in its logarithm.
        bend = sharpness**2 * float(weights @ variance) + max(pull, 0.0) + precision
        step = float(np.clip(slope / bend, -LARGEST_STEP, LARGEST_STEP))
        at -= step
        if abs(step) < CONVERGED:
            break
    return float(np.exp(-at))


def probabilities(scores: Doubles, temperature: float) -> Doubles:
    """softmax(scores / temperature) of each row: (n, k) float64."""
    scaled = (scores - scores.max(axis=1, keepdims=True, initial=-np.inf)) / temperature
    np.exp(scaled, out=scaled)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def log_losses(chances: Doubles, targets: Ints) -> Doubles:
    """-log probability of the true class of each row, in nats: (n,) float64."""
    own = chances[np.arange(len(targets)), targets]
    return np.asarray(-np.log(np.maximum(own, np.finfo(np.float64).tiny)))


def calibration_error(chances: Doubles, targets: Ints) -> float:
    """Expected calibration error of the most probable class, in bins of equal mass.

    Bins hold at least 10 examples, at most 15 bins (Nguyen and O'Connor, EMNLP 2015, for equal mass).
    """
    confidence = chances.max(axis=1)
    correct = chances.argmax(axis=1) == targets
    bins = int(np.clip(len(targets) // EXAMPLES_PER_BIN, 1, MAX_BINS))
    # Edges, not ranks: equal confidences share a bin, whatever the order of the rows.
    edges = np.quantile(confidence, np.arange(1, bins) / bins)
    gaps = np.bincount(np.searchsorted(edges, confidence, side="right"), weights=confidence - correct)
    return float(np.abs(gaps).sum() / len(targets))
