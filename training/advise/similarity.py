"""How like images are to those that a network was trained on, told without the latter. Knows no label.

Two witnesses. What batch normalisation remembers of the source says how far the taps are from it; early
stages tell domains apart best, so the last tap does not count where there are others. And the classifier that
the network came with is sure of images like those it learned from: by its entropy; the energy of Liu et al.
("Energy-based out-of-distribution detection", NeurIPS 2020) told least. Alone it is a weak witness.

The borders lie halfway, in logarithms, between sets that were measured with EfficientNet-Lite0: distances of
.10 (ImageNet) and .17 (photographs of pets) against .40 (blood cells) and .42 (skin lesions). Five images are
enough to tell these. Grey, tiny or heavily compressed photographs come out between: there it says so.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import erf, exp, log, sqrt
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from training.advise.knowledge import SourceKnowledge
from training.classifier import Classifier
from training.heads.support import evenly
from training.source import SMALLEST_STD, Channels, SourceStatistics

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Level = Literal["high", "low"]

DISTANCE_BORDER, ENTROPY_BORDER = 0.26, 0.515
# How far on either side of a border a set may lie by chance of the domain: in logarithms, and as a share.
DISTANCE_SPREAD, ENTROPY_SPREAD = 0.2, 0.1
MOST_CLASSIFIER_SAYS = 0.75  # standard deviations, where there are distances too
SURE = 0.9
SMALLEST_DISTANCE = 0.02
RESAMPLES, MOST_RESAMPLED = 100, 2000
UPPER = 0.975  # quantile at the end of a 95 % interval
MEDIAN_FACTOR = 1.2533  # standard error of a median over that of a mean, of normal values


@dataclass(frozen=True)
class Opinion:
    """What the source's own classifier says of n images: medians over the images.

    Attributes
    ----------
    energy : logarithm of the sum of the exponentials of the logits
    max_probability : of the most probable class
    entropy : of the probabilities, in nats
    entropy_share : of the largest entropy that so many classes can have
    entropy_share_error : standard error of that
    """

    energy: float
    max_probability: float
    entropy: float
    entropy_share: float
    entropy_share_error: float


@dataclass(frozen=True)
class Similarity:
    """How like the source images are.

    Attributes
    ----------
    level : high or low; None if there is nothing to tell it by
    confidence : 0.5 to 1, that the level is right, from the distance to the border; no measured rate
    distance, low, high : of the taps, and its 95 % interval over images; None without statistics
    stages : distance of each tap
    opinion : of the source's classifier; None without one
    """

    level: Level | None
    confidence: float
    distance: float | None
    low: float | None
    high: float | None
    stages: Mapping[str, float]
    opinion: Opinion | None

    @property
    def is_sure(self) -> bool:
        return self.level is not None and self.confidence >= SURE

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON-ready values."""
        return {
            "level": self.level,
            "confidence": self.confidence,
            "is_sure": self.is_sure,
            "distance": self.distance,
            "distance_low": self.low,
            "distance_high": self.high,
            "distance_border": DISTANCE_BORDER,
            "stages": dict(self.stages),
            "classifier": None if self.opinion is None else asdict(self.opinion),
            "entropy_border": ENTROPY_BORDER,
        }


def measure_similarity(
    layers: Mapping[str, Floats],
    embedding: Floats,
    source: SourceKnowledge,
) -> Similarity:
    """Compare n images with the source.

    Parameters
    ----------
    layers : the taps by name, (n, dim) each
    embedding : (n, dim)
    source : what the extractor knows of its source
    """
    classifier, statistics = source.classifier, source.statistics
    opinion = None if classifier is None else opinion_of(classifier, embedding)
    known = {} if statistics is None else {n: layers[n] for n in statistics.taps if n in layers}
    if not known or statistics is None:
        low_by = None if opinion is None else _by_entropy(opinion)
        return _judged(low_by, None, None, {}, opinion)
    stages = {name: tap_distance(taps, statistics.taps[name]) for name, taps in known.items()}
    early = dict(list(known.items())[: max(len(known) - 1, 1)])
    distance = _together([stages[name] for name in early])
    error = _log_error(early, statistics, distance)
    low_by = log(distance / DISTANCE_BORDER) / sqrt(DISTANCE_SPREAD**2 + error**2)
    if opinion is not None:
        low_by += float(np.clip(_by_entropy(opinion), -MOST_CLASSIFIER_SAYS, MOST_CLASSIFIER_SAYS))
    factor = exp(error * float(stdtrit(max(len(embedding) - 1, 2), UPPER)))
    return _judged(low_by, distance, factor, stages, opinion)


def tap_distance(pooled: Floats, source: Channels) -> float:
    """How far n images are from the source, as `Channels.distance`, less what n images have by chance.

    The mean of n images misses that of all by a variance of s^2 / n in every channel, which is taken off.
    """
    count = len(pooled)
    squared = source.distance(pooled) ** 2
    if count > 1:
        variance = pooled.var(axis=0, ddof=1, dtype=np.float64)
        squared -= float(np.mean(variance / np.maximum(source.std, SMALLEST_STD) ** 2)) / count
    return max(sqrt(max(squared, 0.0)), SMALLEST_DISTANCE)


def opinion_of(classifier: Classifier, embedding: Floats) -> Opinion:
    """What the source's classifier says of embeddings, (n, dim)."""
    logits = classifier.logits(embedding).astype(np.float64)
    energy, chances = softmax(logits)
    entropy = -(chances * np.log(np.maximum(chances, np.finfo(np.float64).tiny))).sum(axis=1)
    largest = log(chances.shape[1]) if chances.shape[1] > 1 else 1.0
    spread = float(np.std(entropy, ddof=1)) if len(entropy) > 1 else largest / 4
    return Opinion(
        energy=float(np.median(energy)),
        max_probability=float(np.median(chances.max(axis=1))),
        entropy=float(np.median(entropy)),
        entropy_share=float(np.median(entropy)) / largest,
        entropy_share_error=MEDIAN_FACTOR * spread / sqrt(len(entropy)) / largest,
    )


def softmax(logits: Doubles) -> tuple[Doubles, Doubles]:
    """The logarithm (n,) of the sum of exponentials, and the probabilities (n, k), of logits (n, k)."""
    top = logits.max(axis=1, keepdims=True)
    energy = top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return energy[:, 0], np.exp(logits - energy)


def _by_entropy(opinion: Opinion) -> float:
    """By how many standard deviations the classifier holds images for unlike the source."""
    return (opinion.entropy_share - ENTROPY_BORDER) / sqrt(ENTROPY_SPREAD**2 + opinion.entropy_share_error**2)


def _together(distances: list[float]) -> float:
    return sqrt(sum(distance**2 for distance in distances) / len(distances))


def _log_error(taps: Mapping[str, Floats], statistics: SourceStatistics, distance: float) -> float:
    """Standard error of the logarithm of the distance, over images: from resampled images."""
    count = min(len(rows) for rows in taps.values())
    if count < 3:
        return 1.0
    rng = np.random.default_rng(0)
    chosen = evenly(count, MOST_RESAMPLED) if count > MOST_RESAMPLED else np.arange(count)
    used = len(chosen)
    draws = rng.multinomial(used, np.full(used, 1 / used), size=RESAMPLES) / used
    total = np.zeros(RESAMPLES)
    for name, rows in taps.items():
        source = statistics.taps[name]
        shift = (draws @ rows[chosen].astype(np.float64) - source.mean) / np.maximum(source.std, SMALLEST_STD)
        total += np.mean(shift**2, axis=1)
    spread = float(np.std(np.sqrt(total / len(taps)))) * sqrt(used / count)
    return spread / distance * sqrt(count / (count - 1))  # resampled means spread less than new ones


def _judged(
    low_by: float | None,
    distance: float | None,
    factor: float | None,
    stages: Mapping[str, float],
    opinion: Opinion | None,
) -> Similarity:
    """The verdict of `low_by` standard deviations beyond the border; `factor` is the interval's."""
    if low_by is None:
        return Similarity(None, 0.5, None, None, None, stages, opinion)
    return Similarity(
        level="low" if low_by > 0 else "high",
        confidence=0.5 * (1 + erf(abs(low_by) / sqrt(2))),
        distance=distance,
        low=None if distance is None or factor is None else distance / factor,
        high=None if distance is None or factor is None else distance * factor,
        stages=stages,
        opinion=opinion,
    )
