"""Scores -> probabilities that can be trusted, and what measures it. Knows no feature.

One label: a temperature (Guo et al., "On calibration of modern neural networks", ICML 2017). Several: a slope
that all labels share and an offset for each (Platt, "Probabilistic outputs for support vector machines",
1999). Both are fitted to held-out scores. With few examples those say little, so the logarithm of the slope
has a normal prior and the fit is its posterior mode; with no held-out score it is the prior's mode.
"""

from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt

from training.heads.definite import Numbers
from training.heads.support import Doubles, Ints, SupportSet, evenly

NEWTON_STEPS = 50
LARGEST_STEP = 1.0
CONVERGED = 1e-4  # of a logarithm
# log(slope * margin of the fit) that calibrates unseen images best: 2.6 on cats_dogs, 2.9 on blood_cells, 0.8
# on ham10000, whatever the number of examples and the penalty (docs/experiments.md).
USUAL_LOG_SLOPE, SLOPE_DEVIATION = 2.1, 0.8
SMALLEST_MARGIN = 1e-6
FEWEST_MOVES = 5.0  # that make up a margin which tells more than the shares of the labels
CALIBRATION_SCORES, FEWEST_CALIBRATED = 65_536, 256  # scores, and examples, that are enough to calibrate with
EXAMPLES_PER_BIN = 10
MAX_BINS = 15
OFFSET_PRECISION = 0.1  # of a label's offset, in the units of its logit


@dataclass(frozen=True)
class SlopePrior:
    """Normal prior of log(slope)."""

    center: float
    deviation: float


@dataclass(frozen=True, eq=False)
class Usual:
    """What is expected of labels before a held-out score is seen.

    Attributes
    ----------
    middle : (K,) scores halfway between those of the inputs with a label and of those without it
    log_odds : (K,) of a label at that score
    """

    middle: Doubles
    log_odds: Doubles

    @classmethod
    def of(cls, shares: Doubles, margin: float, examples: float) -> "Usual":
        """Of least squares fits, whose mean score is the share of the examples with a label.

        Parameters
        ----------
        shares : (K,) of the examples
        margin : how much higher the inputs with a label score than those without it
        """
        counts = shares * examples
        odds = np.log((counts + 0.5) / (examples - counts + 0.5))
        # The less the scores tell, the more the shares do.
        return cls(shares + (1 - 2 * shares) * margin / 2, odds * (1 - min(margin, 1.0)))


@dataclass(frozen=True, eq=False)
class Calibration:
    """Logits are slope * scores + offset, each (K,) float64; a softmax over them, or a sigmoid each."""

    slope: Doubles
    offset: Doubles
    softmax: bool

    @property
    def without_last(self) -> "Calibration":
        """Of all columns but the last: probabilities given that it is none of the last."""
        return Calibration(self.slope[:-1], self.offset[:-1], self.softmax)

    def probabilities(self, scores: Numbers) -> Numbers:
        """Probabilities (m, K) of scores (m, K): of a softmax, which sum to 1, in their precision."""
        if not self.softmax:
            return np.asarray(sigmoid(scores * self.slope + self.offset), dtype=np.float64)
        logits = self._logits(scores)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        return logits

    def losses(self, scores: Numbers, columns: Ints) -> Doubles:
        """-log probability in nats of some columns (m, j) of scores (m, K), by a softmax: (m, j).

        From the logits, so that what is too improbable for the precision of the scores is not impossible.
        """
        logits = self._logits(scores)
        asked = np.take_along_axis(logits, columns, axis=1).astype(np.float64)
        return np.asarray(np.log(np.exp(logits, out=logits).sum(axis=1))[:, None] - asked)

    def _logits(self, scores: Numbers) -> Numbers:
        """Logits (m, K) of which the largest of a row is 0."""
        logits = scores * self.slope.astype(scores.dtype)
        logits += self.offset.astype(scores.dtype)
        logits -= logits.max(axis=1, keepdims=True, initial=-np.inf)
        return logits


def calibrate(support: SupportSet, rows: Ints, held_out: Numbers, margin: float) -> Calibration:
    """From scores to probabilities.

    Parameters
    ----------
    rows : (h,) examples that were held out, h may be 0
    held_out : (h, K) their scores
    margin : how much higher the fit scores the labels that an example has than the others
    """
    most = max(FEWEST_CALIBRATED, CALIBRATION_SCORES // support.columns)
    if len(rows) > most:
        asked = evenly(len(rows), most)
        rows, held_out = rows[asked], held_out[asked]
    weights = support.weights[rows]
    if support.is_single:
        center = USUAL_LOG_SLOPE - log(max(margin, SMALLEST_MARGIN))
        return fit_softmax(held_out, support.targets[rows], weights, SlopePrior(center, SLOPE_DEVIATION))
    total = float(support.weights.sum())
    # In a multi-label set, leaving out an example moves the shares, and so its score, by 1 / total.
    margin = max(margin, FEWEST_MOVES / total)
    # With two classes a sigmoid sees half of the difference that a softmax sees.
    prior = SlopePrior(USUAL_LOG_SLOPE - log(margin / 2), SLOPE_DEVIATION)
    usual = Usual.of(support.weights @ support.indicator / total, margin, total)
    return fit_sigmoids(held_out, support.indicator[rows], weights, prior, usual)


def fit_softmax(scores: Numbers, targets: Ints, weights: Doubles, prior: SlopePrior) -> Calibration:
    """The slope (1 / temperature) that makes held-out scores most probable, given the prior.

    Parameters
    ----------
    scores : (h, K), held-out, h may be 0
    targets : (h,) int64
    weights : (h,) float64
    """
    columns = scores.shape[1]
    at, precision = prior.center, prior.deviation**-2
    scores = scores - scores.max(axis=1, keepdims=True, initial=-np.inf)
    own = float(weights @ scores[np.arange(len(targets)), targets])
    odds, squares = np.empty_like(scores), scores * scores
    for _ in range(NEWTON_STEPS if len(scores) else 0):
        slope = float(np.exp(at))
        np.exp(np.multiply(scores, slope, out=odds), out=odds)
        totals = odds.sum(axis=1)
        means = np.vecdot(odds, scores) / totals
        pull = slope * (float(weights @ means) - own)
        spread = float(weights @ np.maximum(np.vecdot(odds, squares) / totals - means * means, 0))
        # Never a negative curvature: the loss is convex in the slope, not in its logarithm.
        bend = slope**2 * spread + max(pull, 0.0) + precision
        step = (pull + precision * (at - prior.center)) / bend
        at -= min(max(step, -LARGEST_STEP), LARGEST_STEP)
        if abs(step) < CONVERGED:
            break
    return Calibration(np.full(columns, np.exp(at)), np.zeros(columns), softmax=True)


def fit_sigmoids(
    scores: Numbers, indicator: npt.NDArray[np.bool_], weights: Doubles, prior: SlopePrior, usual: Usual
) -> Calibration:
    """A slope for all labels and an offset for each. Shapes (h, K), (h, K), (h,); h may be 0."""
    scores = scores - usual.middle
    slope, offset = np.exp(prior.center), usual.log_odds.copy()
    at, precision = prior.center, prior.deviation**-2
    for _ in range(NEWTON_STEPS if len(scores) else 0):
        chances = sigmoid(scores * slope + offset)
        wrong = weights[:, None] * (chances - indicator)
        bend = weights[:, None] * chances * (1 - chances)
        centered = scores * slope
        offset_step = (wrong.sum(axis=0) + OFFSET_PRECISION * (offset - usual.log_odds)) / (
            bend.sum(axis=0) + OFFSET_PRECISION
        )
        pull = float((wrong * centered).sum())
        curve = float((bend * centered**2).sum()) + max(pull, 0.0) + precision
        step = (pull + precision * (at - prior.center)) / curve
        at -= min(max(step, -LARGEST_STEP), LARGEST_STEP) / 2
        offset -= np.clip(offset_step, -LARGEST_STEP, LARGEST_STEP) / 2
        slope = np.exp(at)
        if abs(step) < CONVERGED and np.abs(offset_step).max() < CONVERGED:
            break
    return Calibration(np.full(len(offset), slope), offset - slope * usual.middle, softmax=False)


def sigmoid(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def log_losses(chances: Doubles, targets: Ints) -> Doubles:
    """-log probability of the true class of each row, in nats: (n,) float64."""
    own = chances[np.arange(len(targets)), targets]
    return np.asarray(-np.log(np.maximum(own, np.finfo(np.float64).tiny)))


def calibration_error(confidence: Numbers, correct: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error of stated confidences, in bins of equal mass.

    Bins hold at least 10 examples, at most 15 bins (Nguyen and O'Connor, EMNLP 2015, for equal mass).
    """
    bins = int(np.clip(len(correct) // EXAMPLES_PER_BIN, 1, MAX_BINS))
    # Edges, not ranks: equal confidences share a bin, whatever the order of the rows.
    ranked = np.sort(confidence)
    edges = ranked[np.arange(1, bins) * len(ranked) // bins]
    gaps = np.bincount(np.searchsorted(edges, confidence, side="right"), weights=confidence - correct)
    return float(np.abs(gaps).sum() / len(correct))
