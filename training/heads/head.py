"""A fitted head and its predictions. Knows neither how it was fitted nor how it is stored."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from training.errors import ExtractorMismatchError, InputError
from training.heads.calibration import Calibration
from training.heads.gathering import check_embeddings
from training.heads.layers import Layer, layer_features, side_by_side, total_dim
from training.heads.options import check_threshold
from training.heads.report import Report
from training.heads.support import Doubles, Ints
from training.heads.transform import Floats
from training.heads.typicality import Typicality

SURELY_NONE = 0.5  # probability of "none of these" above which an input is unknown


@dataclass(frozen=True, eq=False)
class Prediction:
    """Answers for m inputs.

    Attributes
    ----------
    task : single_label or multi_label
    classes : names of the k classes
    probabilities : (m, k) float32, calibrated; of a single-label head, rows sum to 1
    typicality : (m,) float32 in [0, 1]; about this share of in-class inputs are less typical
    negative : (m,) float32, probability of "none of these"; None if the head was shown no negatives
    unknown : (m,) bool, typicality below the threshold, or "none of these" more likely than not
    best : (m,) int64, index of the most probable class
    """

    task: str
    classes: tuple[str, ...]
    probabilities: Floats
    typicality: Floats
    negative: Floats | None
    unknown: npt.NDArray[np.bool_]
    best: Ints

    @property
    def labels(self) -> list[str]:
        """Name of the most probable class of each input."""
        return [self.classes[index] for index in self.best]


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier over some layers of one extractor.

    Attributes
    ----------
    task : single_label or multi_label
    classes : names, ascending
    negatives : whether the last of the K columns stands for "none of these"
    width : length of a row of its extractor
    layers : those of the row that it uses, in the order of the row
    extractor_digest : the extractor whose rows it understands
    transform : name of the step from embedding to feature
    weights : (K, d) float32; bias : (K,) float64; scores are features @ weights.T + bias
    calibration : from scores to probabilities
    typicality : how like the support set an input is
    unknown_threshold : typicality below which an input is unknown
    report : held-out quality
    parent_version : the version that this one replaces, if any
    library_version : version of Headstart that fitted it
    """

    task: str
    classes: tuple[str, ...]
    negatives: bool
    width: int
    layers: tuple[Layer, ...]
    extractor_digest: str
    transform: str
    weights: Floats
    bias: Doubles
    calibration: Calibration
    typicality: Typicality
    unknown_threshold: float
    report: Report
    parent_version: int | None
    library_version: str

    def predict(self, embeddings: object, threshold: float | None = None) -> Prediction:
        """Score rows of the head's extractor.

        Parameters
        ----------
        embeddings : (m, width) float32 rows, or (m, dim): the head's layers alone, side by side; m may be 0
        threshold : typicality below which an input is `unknown`; None for the head's own

        Raises
        ------
        ExtractorMismatchError
            If they have another number of columns.
        InputError
            If the array has a wrong shape or type, NaN or infinity.
        SupportSetError
            If the threshold is not in [0, 1].
        """
        array = check_embeddings(embeddings, InputError)
        features = layer_features(array, self.layers_in(array.shape[1]), self.transform)
        # One dot product for each pair, unlike a matrix product, gives a row the same bits in every batch.
        products = np.vecdot(features[:, None, :], self.rows[None, :, :]).astype(np.float64)
        return self.answer(np.vecdot(features, features).astype(np.float64), products, threshold)

    @property
    def dim(self) -> int:
        """The number of columns that it uses: d."""
        return total_dim(self.layers)

    def layers_in(self, columns: int) -> tuple[Layer, ...]:
        """Where its layers are in rows of so many columns.

        Raises
        ------
        ExtractorMismatchError
            If these are neither whole rows nor its layers alone.
        """
        if columns == self.width:
            return self.layers
        if columns != self.dim:
            expected = f"{self.width}" if self.dim == self.width else f"{self.width} or {self.dim}"
            raise ExtractorMismatchError(f"embeddings: expected {expected} dimensions, got {columns}")
        return side_by_side(self.layers)

    def answer(self, lengths: Doubles, products: Doubles, threshold: float | None = None) -> Prediction:
        """From products with `rows` to a prediction.

        Parameters
        ----------
        lengths : (m,) squared lengths of the features, 1 or 0
        products : (m, len(rows)) products of the features with `rows`
        threshold : as in `predict`
        """
        limit = self.unknown_threshold if threshold is None else check_threshold(threshold)
        plain, rest = products[:, : len(self.weights)], products[:, len(self.weights) :]
        scores = plain + self.bias
        chances = self.calibration.probabilities(scores)
        typicality = self.typicality.score(lengths, plain, rest)
        unknown, negative = typicality < limit, None
        if self.negatives:
            negative = chances[:, -1].astype(np.float32)
            unknown |= negative > SURELY_NONE
            chances = self.calibration.without_last.probabilities(scores[:, :-1])
        probabilities = chances.astype(np.float32)
        return Prediction(
            self.task,
            self.classes,
            probabilities,
            typicality,
            negative,
            unknown,
            probabilities.argmax(axis=1),
        )

    @cached_property
    def rows(self) -> Floats:
        """Everything a feature is multiplied with: weights, mean and directions, (K + 1 + r, d)."""
        return np.concatenate((self.weights, self.typicality.mean[None, :], self.typicality.directions))
