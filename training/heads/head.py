"""A fitted head and its predictions. Knows neither how it was fitted nor how it is stored."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from training.errors import ExtractorMismatchError, InputError
from training.heads.calibration import Doubles, probabilities
from training.heads.options import check_threshold
from training.heads.report import Report
from training.heads.support import Ints, check_embeddings
from training.heads.transform import Floats, signed_power_l2
from training.heads.typicality import SMALLEST_DISTANCE, Typicality


@dataclass(frozen=True, eq=False)
class Prediction:
    """Answers for m inputs.

    Attributes
    ----------
    classes : names of the k classes
    probabilities : (m, k) float32, calibrated; rows sum to 1
    typicality : (m,) float32 in [0, 1]; about this share of in-class inputs are less typical
    unknown : (m,) bool, typicality below the threshold
    best : (m,) int64, index of the most probable class
    """

    classes: tuple[str, ...]
    probabilities: Floats
    typicality: Floats
    unknown: npt.NDArray[np.bool_]
    best: Ints

    @property
    def labels(self) -> list[str]:
        """Name of the most probable class of each input."""
        return [self.classes[index] for index in self.best]


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier over the embeddings of one extractor.

    Attributes
    ----------
    classes : names, ascending
    dim : length of an embedding
    extractor_digest : the extractor whose embeddings it understands
    transform : name of the step from embedding to feature
    weights : (k, d) float32; bias : (k,) float64; scores are features @ weights.T + bias
    temperature : probabilities are softmax(scores / temperature)
    typicality : class means, directions and curve of the typicality score
    unknown_threshold : typicality below which an input is unknown
    report : cross-validated quality
    parent_version : the version that this one replaces, if any
    library_version : version of Headstart that fitted it
    """

    classes: tuple[str, ...]
    dim: int
    extractor_digest: str
    transform: str
    weights: Floats
    bias: Doubles
    temperature: float
    typicality: Typicality
    unknown_threshold: float
    report: Report
    parent_version: int | None
    library_version: str

    def predict(self, embeddings: object, threshold: float | None = None) -> Prediction:
        """Score embeddings of the head's extractor.

        Parameters
        ----------
        embeddings : (m, d) float32, m may be 0
        threshold : typicality below which an input is `unknown`; None for the head's own

        Raises
        ------
        ExtractorMismatchError
            If d is not the head's.
        InputError
            If the array has a wrong shape or type, NaN or infinity.
        SupportSetError
            If the threshold is not in [0, 1].
        """
        limit = self.unknown_threshold if threshold is None else check_threshold(threshold)
        array = check_embeddings(embeddings, InputError)
        if array.shape[1] != self.dim:
            raise ExtractorMismatchError(f"embeddings: expected {self.dim} dimensions, got {array.shape[1]}")
        features = signed_power_l2(array)
        # One dot product for each pair, unlike a matrix product, gives a row the same bits in every batch.
        products = np.vecdot(features[:, None, :], self._stacked[None, :, :]).astype(np.float64)
        scores = products[:, : len(self.classes)] + self.bias
        chances = probabilities(scores, self.temperature).astype(np.float32)
        typicality = self._typicality(features, products[:, len(self.classes) :])
        return Prediction(self.classes, chances, typicality, typicality < limit, chances.argmax(axis=1))

    @cached_property
    def _stacked(self) -> Floats:
        return np.concatenate((self.weights, self.typicality.means, self.typicality.directions))

    @cached_property
    def _mean_lengths(self) -> Doubles:
        return np.asarray(np.vecdot(self.typicality.means, self.typicality.means), dtype=np.float64)

    @cached_property
    def _mean_positions(self) -> Doubles:
        means, directions = self.typicality.means, self.typicality.directions
        return np.asarray(np.vecdot(means[:, None, :], directions[None, :, :]), dtype=np.float64)

    def _typicality(self, features: Floats, products: Doubles) -> Floats:
        to_means, position = products[:, : len(self.classes)], products[:, len(self.classes) :]
        lengths = np.vecdot(features, features).astype(np.float64)[:, None]
        offsets = position[:, None, :] - self._mean_positions[None, :, :]
        distances = lengths + self._mean_lengths - 2 * to_means - np.vecdot(offsets, offsets)
        logs = np.log(np.maximum(distances.min(axis=1), SMALLEST_DISTANCE))
        return np.asarray(np.interp(logs, self.typicality.knots, self.typicality.values), dtype=np.float32)
