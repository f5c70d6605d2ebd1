"""Whether a trained network is better than the frozen one, by inputs that neither was trained on.

Knows rows of two extractors; knows no network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.finetune.samples import Ints, Samples, Split
from training.heads import NEGATIVE_LABEL, FitOptions, fit_head
from training.heads.head import SURELY_NONE
from training.heads.pairing import Paired, paired_difference

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows (n, width) of all inputs by one extractor, and what is needed to fit a head on them."""

    rows: Floats
    layer_dims: Mapping[str, int]
    digest: str


@dataclass(frozen=True)
class Verdict:
    """Accuracy on the held-out inputs with the frozen and with the trained network, and their difference.

    Attributes
    ----------
    paired : accuracies, their difference and its 95 % interval
    frozen_balanced, tuned_balanced : mean recall over the classes
    """

    paired: Paired
    frozen_balanced: float
    tuned_balanced: float

    @property
    def is_better(self) -> bool:
        """Beyond doubt in accuracy, and in balanced accuracy, too."""
        return self.paired.is_better and self.tuned_balanced > self.frozen_balanced

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON-ready values."""
        paired = self.paired
        return {
            "count": paired.held_out,
            "frozen_accuracy": paired.before,
            "tuned_accuracy": paired.after,
            "difference": paired.difference,
            "low": paired.low,
            "high": paired.high,
            "frozen_balanced_accuracy": self.frozen_balanced,
            "tuned_balanced_accuracy": self.tuned_balanced,
            "is_better": self.is_better,
        }


def judge(frozen: Rows, tuned: Rows, samples: Samples, split: Split, options: FitOptions) -> Verdict:
    """Fit a head on the training part of each, and ask both about the held-out part."""
    known = np.setdiff1d(np.arange(len(samples)), split.held_out)
    labels = np.array(samples.labels)
    was_right, is_right = (_right(rows, labels, known, split.held_out, options) for rows in (frozen, tuned))
    truth = labels[split.held_out]
    return Verdict(
        paired=paired_difference(was_right, is_right),
        frozen_balanced=_balanced(was_right, truth),
        tuned_balanced=_balanced(is_right, truth),
    )


def _right(rows: Rows, labels: npt.NDArray[np.str_], known: Ints, asked: Ints, options: FitOptions) -> Bools:
    head = fit_head(
        rows.rows[known],
        labels[known].tolist(),
        extractor_digest=rows.digest,
        options=options,
        layer_dims=rows.layer_dims,
    )
    prediction = head.predict(rows.rows[asked])
    found = np.array(prediction.labels, dtype=object)
    if prediction.negative is not None:
        found[prediction.negative > SURELY_NONE] = NEGATIVE_LABEL
    return np.asarray(found == labels[asked])


def _balanced(right: Bools, truth: npt.NDArray[np.str_]) -> float:
    return float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))
