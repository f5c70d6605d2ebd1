"""Two extractors on the same examples: whose held-out answers are right more often, and how sure that is.

Both are judged as `Report` judges a head, example by example, so that what is hard for both does not count.
Knows no file, no database and no HTTP.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from training.heads.calibration import calibrate
from training.heads.figures import wilson_interval
from training.heads.gathering import gather
from training.heads.layer_choice import choose_layers
from training.heads.options import FitOptions
from training.heads.report import DEPENDENCE, HeldOut
from training.heads.selection import select
from training.heads.threads import one_thread_for


@dataclass(frozen=True)
class Paired:
    """Held-out accuracy with one extractor and with another on the same examples.

    Attributes
    ----------
    held_out : number of examples that both could be asked about
    before, after : accuracy on them with the one and with the other
    difference, low, high : after less before, and its 95 % interval
    """

    held_out: int
    before: float
    after: float
    difference: float
    low: float
    high: float

    @property
    def is_better(self) -> bool:
        """Whether the other extractor is better beyond doubt: all of the interval is above zero."""
        return self.low > 0

    def as_dict(self) -> dict[str, float]:
        """The figures as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows (n, width) float32 of one extractor, or its embeddings, and how a head is fitted to them.

    `layer_dims` as in `fit_head`.
    """

    values: object
    options: FitOptions
    layer_dims: Mapping[str, int] | None = None


def pair_extractors(
    before: Rows,
    after: Rows,
    labels: Sequence[str] | Sequence[Collection[str]],
    *,
    unseen: Sequence[bool] | None = None,
) -> Paired | None:
    """Fit on the rows of two extractors and compare the held-out answers; None if there are none.

    Parameters
    ----------
    before, after : of the same inputs in the same order, with options of the same task
    labels : as in `fit_head`
    unseen : whether neither extractor was trained on each input: only such are held out. None: on no input

    Raises
    ------
    SupportSetError
        As `fit_head`.
    """
    with one_thread_for(len(labels)):
        first, classes = _held_out_right(before, labels, unseen)
        second, _ = _held_out_right(after, labels, unseen)
    both = ~(np.isnan(first) | np.isnan(second))
    if not both.any():
        return None
    was_right, is_right = first[both] > 0, second[both] > 0
    return paired_difference(was_right, is_right, classes=classes)


def paired_difference(
    before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_], *, classes: int = 0
) -> Paired:
    """The difference of two accuracies on the same n > 0 examples, with its 95 % interval.

    Newcombe's square-and-add of two Wilson intervals, with their correlation ("Improved confidence intervals
    for the difference between binomial proportions based on paired data", Statistics in Medicine 17, 1998,
    method 10). `classes` as in `accuracy_interval`: 0 for answers that do not depend on each other.
    """
    total = len(before)
    right, wrong = int((before & after).sum()), int((~before & ~after).sum())
    gained, lost = int((~before & after).sum()), int((before & ~after).sum())
    effective = total / (1 + DEPENDENCE * classes / total)
    share, other = (right + gained) / total, (right + lost) / total
    low, high = wilson_interval(share, effective)
    other_low, other_high = wilson_interval(other, effective)
    correlation = _correlation(right, gained, lost, wrong)
    down = _added(share - low, other_high - other, correlation)
    up = _added(high - share, other - other_low, correlation)
    difference = share - other
    return Paired(total, other, share, difference, difference - down, difference + up)


def _added(one: float, other: float, correlation: float) -> float:
    return sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0.0))


def _correlation(right: int, gained: int, lost: int, wrong: int) -> float:
    """Of the two answers, drawn towards 0 as the method asks."""
    product = (right + gained) * (lost + wrong) * (right + lost) * (gained + wrong)
    if not product:
        return 0.0
    excess: float = right * wrong - gained * lost
    if excess > 0:
        excess = max(excess - (right + gained + lost + wrong) / 2, 0.0)
    return excess / sqrt(product)


def _held_out_right(
    rows: Rows, labels: Sequence[str] | Sequence[Collection[str]], unseen: Sequence[bool] | None
) -> tuple[npt.NDArray[np.float64], int]:
    """Whether each of the n examples was answered right while held out (1, 0; NaN if it never was), and K."""
    options = rows.options
    gathered = gather(rows.values, labels, options.task, options.seed, rows.layer_dims, unseen)
    support = choose_layers(gathered, options).support
    selected = select(support, options)
    fit = selected.fit
    held = HeldOut.of(support, selected, calibrate(support, fit.rows, fit.held_out, fit.margin))
    known = np.full(len(support), np.nan)
    known[held.rows] = held.right
    return known[support.place], support.columns
