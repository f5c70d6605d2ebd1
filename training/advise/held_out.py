"""How good heads on some layers are, by answers to examples they had not seen. Knows no source."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.heads.calibration import calibrate
from training.heads.figures import wilson_interval
from training.heads.options import FitOptions
from training.heads.pairing import Paired, paired_difference
from training.heads.report import DEPENDENCE, HeldOut, accuracy_interval
from training.heads.selection import select
from training.heads.support import SupportSet


@dataclass(frozen=True, eq=False)
class Judged:
    """A head on some layers, judged as `Report` judges one; None where nothing could be held out.

    Attributes
    ----------
    layers : names
    held_out : number of answers
    accuracy, low, high : share of right answers and its 95 % interval
    balanced, balanced_low : mean recall over the classes and the lower end of its 95 % interval
    chance : balanced accuracy of answers that know nothing
    right : (n,) 1, 0, or NaN for an example of the support set that was never held out
    """

    layers: tuple[str, ...]
    held_out: int
    accuracy: float | None
    low: float | None
    high: float | None
    balanced: float | None
    balanced_low: float | None
    chance: float
    right: npt.NDArray[np.float64]

    @property
    def is_above_chance(self) -> bool:
        """Whether answers are better than guesses beyond the noise."""
        return self.balanced_low is not None and self.balanced_low > self.chance


def judge(support: SupportSet, options: FitOptions) -> Judged:
    """Fit on the layers of a support set and ask about what was left out."""
    selected = select(support, options)
    fit = selected.fit
    held = HeldOut.of(support, selected, calibrate(support, fit.rows, fit.held_out, fit.margin))
    total, classes = len(held.rows), len(support.labels)
    names = tuple(layer.name for layer in support.layers)
    right, chance = np.full(len(support), np.nan), 1 / classes if support.is_single else 0.5
    if not total:
        return Judged(names, 0, None, None, None, None, None, chance, right)
    right[held.rows], figures = held.right, held.figures
    low, high = accuracy_interval(figures.correct, total, support.columns)
    balanced = figures.balanced_accuracy
    if balanced is None:
        return Judged(names, total, figures.correct / total, low, high, None, None, chance, right)
    supports = [count for count in figures.supports if count]
    effective = _as_many(supports) if support.is_single else float(total)
    balanced_low, _ = wilson_interval(balanced, effective / (1 + DEPENDENCE * support.columns / total))
    return Judged(names, total, figures.correct / total, low, high, balanced, balanced_low, chance, right)


def compare(before: Judged, after: Judged, classes: int) -> Paired | None:
    """The difference of two heads on the same support set; None if no example was held out for both."""
    both = ~(np.isnan(before.right) | np.isnan(after.right))
    if not both.any():
        return None
    return paired_difference(before.right[both] > 0, after.right[both] > 0, classes=classes)


def _as_many(counts: Sequence[int]) -> float:
    """Answers of equal classes whose mean recall is as certain as that of classes of these counts."""
    return len(counts) ** 2 / sum(1 / count for count in counts)
