"""Transferability scores: how well features suit labels, without training anything. Knows no network.

Each is computed from its paper's definition. They compare layers and networks on one set of examples; their
values on different sets do not compare.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

LOG_RATIOS = np.linspace(np.log(1e-8), np.log(1e8), 129)  # of the prior's precision to that of the noise
REFINEMENTS, STEPS = 4, 33  # each looks 16 times closer
SMALLEST = 1e-300


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Features (n, d) by the eigenvalues of their Gram or moment matrix, whichever is smaller.

    Attributes
    ----------
    values : (r,) squares of the singular values that are not rounding, r at most min(n, d)
    left : (n, r) left singular vectors
    """

    values: Doubles
    left: Doubles

    @classmethod
    def of(cls, features: Doubles) -> "Spectrum":
        """Of features (n, d) as they are, n at least 1."""
        rows, columns = features.shape
        is_wide = columns > rows
        values, vectors = np.linalg.eigh(features @ features.T if is_wide else features.T @ features)
        kept = values > max(values[-1], 0.0) * np.finfo(np.float64).eps * max(rows, columns)
        values, vectors = values[kept], vectors[:, kept]
        return cls(values, vectors if is_wide else features @ vectors / np.sqrt(values))


def log_me(features: Doubles, targets: Doubles) -> float:
    """LogME: largest log evidence of a Bayesian linear model of the labels, per example; higher is better.

    You, Liu, Wang and Long, "LogME: practical assessment of pre-trained models for transfer learning", ICML
    2021: y ~ N(Fw, 1/beta), w ~ N(0, 1/alpha), the evidence at the best alpha and beta, the mean over the
    columns. Here beta is eliminated in closed form and alpha / beta is searched, not iterated to: the largest
    evidence is found however flat it is.

    Parameters
    ----------
    features : (n, d)
    targets : (n, k) of 0 and 1, one column for each class
    """
    spectrum, count = Spectrum.of(features), len(features)
    squared = (spectrum.left.T @ targets) ** 2
    outside = np.maximum((targets**2).sum(axis=0) - squared.sum(axis=0), 0.0)
    evidence = [
        _best_evidence(spectrum.values, squared[:, column], float(outside[column]), count)
        for column in range(targets.shape[1])
    ]
    return float(np.mean(evidence)) / count


def _best_evidence(values: Doubles, squared: Doubles, outside: float, count: int) -> float:
    """Log evidence at the best alpha / beta, in units of the mean of `values`."""
    scale = float(values.mean()) if len(values) else 1.0
    grid = LOG_RATIOS
    for _ in range(REFINEMENTS):
        ratios = scale * np.exp(grid)[:, None]
        left = outside + (squared * ratios / (ratios + values)).sum(axis=1)
        logs = count * np.log(np.maximum(left, SMALLEST) / count) + np.log1p(values / ratios).sum(axis=1)
        evidence = -0.5 * (count * (np.log(2 * np.pi) + 1) + logs)
        best = int(evidence.argmax())
        grid = np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)], STEPS)
    return float(evidence.max())


def h_score(features: Doubles, classes: npt.NDArray[np.int64]) -> float:
    """Regularised H-score: variance between the classes in units of all variance; higher is better.

    Bao et al., "An information-theoretic approach to transferability in task transfer learning", ICIP 2019:
    tr(cov(f)^-1 cov(E[f | y])). Regularised as Ibrahim, Ponomareva and Mazumder ("Newer is not always better:
    rethinking transferability metrics, their peculiarities, stability and performance", ECML PKDD 2022) do:
    cov(f) is shrunk by a = the intensity of Ledoit and Wolf (2004), and the whole is multiplied by 1 - a. So
    it is a number below the number of classes also where there are fewer examples than dimensions.

    Parameters
    ----------
    features : (n, d), n at least 2
    classes : (n,) class of each
    """
    count, dims = features.shape
    centred = features - features.mean(axis=0)
    spectrum = Spectrum.of(centred)
    shrinkage, mean = _ledoit_wolf(centred, spectrum.values / count, dims)
    if not len(spectrum.values) or not mean > 0:
        return 0.0
    members = (classes[:, None] == np.unique(classes)).astype(np.float64)
    # The class means in the basis of the right singular vectors, which they do not leave.
    means = (members.T @ spectrum.left) * np.sqrt(spectrum.values) / members.sum(axis=0)[:, None]
    between = members.sum(axis=0) @ means**2 / count
    total = (1 - shrinkage) * spectrum.values / count + shrinkage * mean
    return float((1 - shrinkage) * (between / total).sum())


def _ledoit_wolf(centred: Doubles, eigenvalues: Doubles, dims: int) -> tuple[float, float]:
    """The intensity (0 to 1) that brings the covariance closest to the truth, and the mean variance."""
    count = len(centred)
    mean = float(eigenvalues.sum()) / dims
    square = float((eigenvalues**2).sum())
    from_target = square - dims * mean**2
    if not from_target > 0:
        return 1.0, mean
    fourth = float(((centred**2).sum(axis=1) ** 2).sum())
    noise = (fourth / count - square) / count
    return min(max(noise / from_target, 0.0), 1.0), mean


def leep(probabilities: Doubles, classes: npt.NDArray[np.int64]) -> float:
    """LEEP: mean log likelihood of the labels, told by the source's classes; at most 0, higher is better.

    Nguyen, Hassner, Seeger and Archambeau, "LEEP: a new measure to evaluate transferability of learned
    representations", ICML 2020.

    Parameters
    ----------
    probabilities : (n, s) of the source's classes
    classes : (n,) class of each, from 0
    """
    members = (classes[:, None] == np.arange(classes.max() + 1)).astype(np.float64)
    joint = members.T @ probabilities / len(classes)
    conditional = joint / np.maximum(joint.sum(axis=0), SMALLEST)
    expected = (probabilities @ conditional.T)[np.arange(len(classes)), classes]
    return float(np.log(np.maximum(expected, SMALLEST)).mean())
