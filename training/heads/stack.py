"""Many heads of one extractor, scored on one row by one matrix product. Knows no store and no names.

What follows the product (calibration, typicality) runs on all heads of the same shape at once.
Heads of other layers or another transform have a product of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.errors import ExtractorMismatchError, InputError
from training.heads.calibration import sigmoid
from training.heads.gathering import check_embeddings
from training.heads.head import SURELY_NONE, Head
from training.heads.layers import Layer, layer_features
from training.heads.support import Ints
from training.heads.transform import Floats
from training.heads.typicality import SMALLEST_DISTANCE

_Kind = tuple[str, tuple[Layer, ...]]  # of a feature: its transform and layers


@dataclass(frozen=True, eq=False)
class StackPrediction:
    """Answers of g heads of one shape for one input.

    Attributes
    ----------
    heads : (g,) int64, which heads of the stack
    probabilities : (g, k) float32
    typicality : (g,) float32
    negative : (g,) float32, or None; see `Prediction`
    unknown : (g,) bool
    best : (g,) int64, index of the most probable class
    """

    heads: Ints
    probabilities: Floats
    typicality: Floats
    negative: Floats | None
    unknown: npt.NDArray[np.bool_]
    best: Ints


class HeadStack:
    """Immutable; as large as its heads.

    Parameters
    ----------
    heads : of one extractor, one or more

    Raises
    ------
    ExtractorMismatchError
        If they are not of one extractor.
    """

    def __init__(self, heads: Sequence[Head]) -> None:
        for head in heads:
            if (head.extractor_digest, head.width) != (heads[0].extractor_digest, heads[0].width):
                raise ExtractorMismatchError("the heads of a stack must be of one extractor")
        self.width = heads[0].width
        shapes: dict[tuple[object, ...], list[int]] = {}
        for index, head in enumerate(heads):
            shapes.setdefault(_shape(head), []).append(index)
        self._groups = [_Group(heads, np.array(members)) for members in shapes.values()]
        # One matrix for each kind of feature, and where in it each group is.
        kinds: dict[_Kind, list[_Group]] = {}
        for group in self._groups:
            kinds.setdefault(group.kind, []).append(group)
        self._matrices = {
            kind: (groups, np.concatenate([group.rows(heads) for group in groups]))
            for kind, groups in kinds.items()
        }

    def predict(self, row: object) -> list[StackPrediction]:
        """The answers of all heads, a group for each shape of head.

        Parameters
        ----------
        row : (width,) or (1, width) float32

        Raises
        ------
        InputError, ExtractorMismatchError
            As `Head.predict`.
        """
        array = check_embeddings(np.atleast_2d(np.asarray(row)), InputError)
        if array.shape != (1, self.width):
            raise ExtractorMismatchError(f"embedding: expected {self.width} dimensions, got {array.shape}")
        answers = []
        for (transform, layers), (groups, matrix) in self._matrices.items():
            feature = layer_features(array, layers, transform)[0]
            products = matrix @ feature
            length, start = np.vecdot(feature, feature), 0
            for group in groups:
                answers.append(group.answer(products[start : start + group.size], length))
                start += group.size
        return answers


def _shape(head: Head) -> tuple[object, ...]:
    typicality = head.typicality
    sizes = (len(head.weights), len(typicality.directions), typicality.centers.shape, len(typicality.values))
    return head.transform, head.layers, head.calibration.softmax, head.negatives, *sizes


class _Group:
    """Heads of one shape: everything but the products, with a leading axis of g."""

    def __init__(self, heads: Sequence[Head], members: Ints) -> None:
        chosen = [heads[index] for index in members]
        first = chosen[0]
        self.members, self.kind = members, (first.transform, first.layers)
        self.negatives, self.softmax = first.negatives, first.calibration.softmax
        self.columns, self.size = len(first.weights), len(members) * len(first.rows)
        self.slope = _stack(head.calibration.slope for head in chosen)
        self.offset = _stack(head.calibration.slope * head.bias + head.calibration.offset for head in chosen)
        curves = [head.typicality for head in chosen]
        self.mean_length = _stack(curve.mean_length for curve in curves)
        self.mean_position = _stack(curve.mean_position for curve in curves)
        self.has_centers = bool(len(curves[0].centers))
        if self.has_centers:
            self.gap_slopes = _stack((curve.basis @ curve.gap_slopes).T for curve in curves)
            self.gap_offsets = _stack(curve.gap_offsets for curve in curves)
        else:
            self.basis = _stack(curve.basis.T for curve in curves)
            self.origin = _stack(curve.origin for curve in curves)
        points = len(curves[0].values)
        self.low = _stack(curve.log_range[0] for curve in curves)
        self.scale = _stack((points - 1) / (curve.log_range[1] - curve.log_range[0]) for curve in curves)
        self.last = points - 2
        self.values = _stack(curve.values for curve in curves).ravel()
        self.value_starts = np.arange(len(members)) * points
        self.threshold = _stack(head.unknown_threshold for head in chosen)

    def rows(self, heads: Sequence[Head]) -> Floats:
        """What a feature is multiplied with, (size, d): first what all heads multiply first."""
        return np.concatenate([heads[index].rows for index in self.members])

    def answer(self, products: Floats, length: np.float32) -> StackPrediction:
        table = products.reshape(len(self.members), -1)
        plain, rest = table[:, : self.columns], table[:, self.columns :]
        logits = plain * self.slope
        logits += self.offset
        chances = self._probabilities(logits)
        typicality = self._typicality(plain, rest, length)
        unknown, negative = typicality < self.threshold, None
        if self.negatives:
            negative = chances[:, -1]
            unknown |= negative > SURELY_NONE
            # Given that it is one of the classes. A quotient would be 0 / 0 where it is surely not.
            chances = self._probabilities(logits[:, :-1])
        return StackPrediction(self.members, chances, typicality, negative, unknown, chances.argmax(axis=1))

    def _probabilities(self, logits: Floats) -> Floats:
        if not self.softmax:
            return np.asarray(sigmoid(logits), dtype=np.float32)
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(chances / chances.sum(axis=1, keepdims=True))

    def _typicality(self, plain: Floats, rest: Floats, length: np.float32) -> Floats:
        offsets = rest[:, 1:] - self.mean_position
        distances = length - 2 * rest[:, 0] + self.mean_length - np.vecdot(offsets, offsets)
        if self.has_centers:
            gaps = np.einsum("gck,gk->gc", self.gap_slopes, plain)
            gaps += self.gap_offsets
            distances += gaps.min(axis=1)
        else:
            inside = np.einsum("gqk,gk->gq", self.basis, plain) - self.origin
            distances -= np.vecdot(inside, inside)
        at = (np.log(np.maximum(distances, np.float32(SMALLEST_DISTANCE))) - self.low) * self.scale
        below = np.clip(at.astype(np.int64), 0, self.last)
        share = np.clip(at - below, 0, 1).astype(np.float32)
        first = self.value_starts + below
        return np.asarray(self.values[first] * (1 - share) + self.values[first + 1] * share)


def _stack(parts: object) -> Floats:
    return np.array(list(parts), dtype=np.float32)  # type: ignore[call-overload]
