"""The portion of the examples that shows what fewer of them would give. Knows no fit."""

from dataclasses import dataclass
from math import ceil, log2

import numpy as np
import numpy.typing as npt

from training.heads.support import SupportSet

MAX_TRAINED = 16_384  # examples of a portion: more would cost a noticeable share of the fit


@dataclass(frozen=True, eq=False)
class Portion:
    """Half of the examples of each class or less.

    Attributes
    ----------
    doublings : how often the portion must be doubled to be all
    known : (n,) bool, its examples
    """

    doublings: int
    known: npt.NDArray[np.bool_]


def portion_of(support: SupportSet) -> Portion | None:
    """One of every two, four, ... examples of a class in their canonical (random) order.

    None if a class would be without examples, and of a multi-label set.
    """
    doublings = max(1, ceil(log2(len(support) / MAX_TRAINED)))
    if not support.is_single or support.distinct_counts.min() < 2**doublings:
        return None
    known = (np.arange(len(support)) - support.starts[support.targets]) % 2**doublings == 0
    return Portion(doublings, np.asarray(known))
