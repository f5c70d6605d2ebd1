"""Many heads of one extractor, scored on one row by one product with one matrix. Knows no store and no names.

What follows the product (calibration, typicality) runs on all heads of about the same size at once, padded to
the largest of them. Heads of other layers or another transform have a product of their own.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.errors import ExtractorMismatchError, InputError
from training.heads.calibration import sigmoid
from training.heads.gathering import check_embeddings
from training.heads.head import SURELY_NONE, Head
from training.heads.layers import Layer, layer_features
from training.heads.options import check_threshold
from training.heads.support import Doubles, Ints
from training.heads.transform import Floats
from training.heads.typicality import MAX_BASIS, SMALLEST_DISTANCE, Typicality, squares

WORTH_A_THREAD_BYTES = 8 << 20  # a millisecond's half, and a thread takes a tenth of one to start
_Kind = tuple[str, tuple[Layer, ...]]  # of a feature: its transform and layers
_Rows = dict[int, tuple[int, int, int]]  # of each head in a matrix: its first weight, its mean, its end


@dataclass(frozen=True, eq=False)
class StackPrediction:
    """Answers of the n heads of a stack for one input; the meaning is that of `Prediction`.

    Attributes
    ----------
    probability : (n,) float32, of the most probable class of each head
    typicality : (n,) float32
    negative : (n,) float32, NaN for a head that was shown no negatives
    unknown : (n,) bool
    best : (n,) int64, index of the most probable class
    """

    probability: Floats
    typicality: Floats
    negative: Floats
    unknown: npt.NDArray[np.bool_]
    best: Ints
    _tables: Sequence[Floats]
    _places: Sequence[tuple[int, int, int]]

    def probabilities(self, head: int) -> Floats:
        """The probabilities (k,) float32 of the classes of one head, by its place in the stack."""
        group, row, classes = self._places[head]
        return np.asarray(self._tables[group][row, :classes])


class HeadStack:
    """Immutable; holds a copy of what scoring needs of its heads.

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
        members: dict[_Kind, list[int]] = {}
        for index, head in enumerate(heads):
            members.setdefault((head.transform, head.layers), []).append(index)
        self._kinds: list[tuple[_Kind, Floats, list[_Group]]] = []
        self._places: list[tuple[int, int, int]] = [(0, 0, 0)] * len(heads)
        count = 0
        for kind, indices in members.items():
            matrix, rows_of = _matrix(heads, indices)
            groups = [_Group(heads, chosen, rows_of, len(matrix)) for chosen in _by_shape(heads, indices)]
            for group in groups:
                for row, index in enumerate(group.members.tolist()):
                    self._places[index] = (count, row, len(heads[index].classes))
                count += 1
            self._kinds.append((kind, matrix, groups))

    def __len__(self) -> int:
        return len(self._places)

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes: nearly all of it is the matrix."""
        return sum(matrix.nbytes for _, matrix, _ in self._kinds)

    def predict(
        self, row: object, threshold: float | None = None, *, beside: Executor | None = None
    ) -> StackPrediction:
        """The answers of all heads for one input.

        Parameters
        ----------
        row : (width,) or (1, width) float32
        threshold : typicality below which the input is `unknown`; None for each head's own
        beside : threads of which one takes half of the products, where that pays

        Raises
        ------
        InputError, ExtractorMismatchError, SupportSetError
            As `Head.predict`.
        """
        array = check_embeddings(np.atleast_2d(np.asarray(row)), InputError)
        if array.shape != (1, self.width):
            raise ExtractorMismatchError(f"embedding: expected {self.width} dimensions, got {array.shape}")
        limit = None if threshold is None else check_threshold(threshold)
        count = len(self)
        answer = StackPrediction(
            probability=np.empty(count, np.float32),
            typicality=np.empty(count, np.float32),
            negative=np.full(count, np.nan, np.float32),
            unknown=np.empty(count, np.bool_),
            best=np.empty(count, np.int64),
            _tables=(tables := []),
            _places=self._places,
        )
        for (transform, layers), matrix, groups in self._kinds:
            feature = layer_features(array, layers, transform)[0]
            products = np.zeros(len(matrix) + 1)  # the last stays zero: padding points at it
            _multiply(matrix, feature, products[:-1], beside)
            length = float(np.vecdot(feature, feature))
            tables += [group.answer(products, length, limit, answer) for group in groups]
        return answer


def _multiply(matrix: Floats, feature: Floats, into: Doubles, beside: Executor | None) -> None:
    """Products as `Head.predict` makes them, so that the answers have the same bits."""
    half = len(matrix) // 2 if beside is not None and matrix.nbytes > WORTH_A_THREAD_BYTES else 0
    other = beside.submit(np.vecdot, matrix[:half], feature) if beside is not None and half else None
    into[half:] = np.vecdot(matrix[half:], feature)
    if other is not None:
        into[:half] = other.result()


def _matrix(heads: Sequence[Head], indices: Sequence[int]) -> tuple[Floats, _Rows]:
    """Everything a feature is multiplied with, head after head, and which rows belong to each."""
    parts: list[Floats] = []
    rows_of: _Rows = {}
    end = 0
    for index in indices:
        weights, typicality = heads[index].weights, heads[index].typicality
        parts += [weights, typicality.mean[None, :], typicality.directions]
        start, end = end, end + len(weights) + 1 + len(typicality.directions)
        rows_of[index] = (start, start + len(weights), end)
    return np.concatenate(parts), rows_of


def _by_shape(heads: Sequence[Head], indices: Sequence[int]) -> Iterable[list[int]]:
    """The heads that are worked on at once: padding at most doubles what they have."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index in indices:
        head, curve = heads[index], heads[index].typicality
        size = (len(head.weights) - 1).bit_length()
        shape = (size, head.calibration.softmax, head.negatives, bool(len(curve.centers)), len(curve.values))
        groups.setdefault(shape, []).append(index)
    return groups.values()


class _Group:
    """Heads of about one shape: everything but the products, with a leading axis of g heads."""

    def __init__(self, stacked: Sequence[Head], members: Sequence[int], rows_of: _Rows, padding: int) -> None:
        heads = [stacked[index] for index in members]
        self.members: Ints = np.array(members)
        self.negatives, self.softmax = heads[0].negatives, heads[0].calibration.softmax
        self.at = np.arange(len(heads))
        self.last = np.array([len(head.weights) for head in heads]) - 1
        starts, means, ends = zip(*(rows_of[index] for index in members), strict=True)
        self.plain = _padded([np.arange(*rows) for rows in zip(starts, means, strict=True)], padding)
        self.mean = np.array(means)
        self.along = _padded([np.arange(m + 1, end) for m, end in zip(means, ends, strict=True)], padding)
        calibrations = [head.calibration for head in heads]
        self.slope = _padded([one.slope for one in calibrations], 0.0)
        self.offset = _padded(
            [one.slope * head.bias + one.offset for one, head in zip(calibrations, heads, strict=True)],
            -np.inf,
        )
        curves = [head.typicality for head in heads]
        self.mean_length = np.array([curve.mean_length for curve in curves])
        self.mean_position = _padded([curve.mean_position for curve in curves], 0.0)
        self.has_centers = bool(len(curves[0].centers))
        if self.has_centers:
            self.gap_offsets = _padded([curve.gap_offsets for curve in curves], np.inf)
        else:
            self.origin = _padded([curve.origin for curve in curves], 0.0)
        self.factors = _factors(curves)
        points = len(curves[0].values)
        low, high = np.array([curve.log_range for curve in curves]).T
        self.low, self.scale, self.last_part = low, (points - 1) / (high - low), points - 2
        self.values = np.array([curve.values for curve in curves]).ravel()
        self.value_starts = self.at * points
        self.threshold = np.array([head.unknown_threshold for head in heads], dtype=np.float32)

    def answer(self, products: Doubles, length: float, limit: float | None, into: StackPrediction) -> Floats:
        """Write the answers of these heads; returns their probabilities, (g, most classes)."""
        plain = products[self.plain]
        logits = plain * self.slope + self.offset
        typicality = self._typicality(products, plain, length).astype(np.float32)
        unknown = typicality < (self.threshold if limit is None else limit)
        if self.negatives:
            negative = self._probabilities(logits)[self.at, self.last]
            unknown |= negative.astype(np.float32) > SURELY_NONE
            into.negative[self.members] = negative
            # Given that it is one of the classes. A quotient would be 0 / 0 where it is surely not.
            logits[self.at, self.last] = -np.inf
        table = self._probabilities(logits).astype(np.float32)
        best = table.argmax(axis=1)
        into.best[self.members] = best
        into.probability[self.members] = table[self.at, best]
        into.typicality[self.members] = typicality
        into.unknown[self.members] = unknown
        return table

    def _probabilities(self, logits: Doubles) -> Doubles:
        if not self.softmax:
            return np.asarray(sigmoid(logits), dtype=np.float64)
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(chances / chances.sum(axis=1, keepdims=True))

    def _typicality(self, products: Doubles, plain: Doubles, length: float) -> Doubles:
        offsets = products[self.along] - self.mean_position
        distances = length - 2 * products[self.mean] + self.mean_length - squares(offsets)
        inside = plain[:, None, :]
        for factor in self.factors:
            inside = inside @ factor
        if self.has_centers:
            distances += (inside[:, 0] + self.gap_offsets).min(axis=1)
        else:
            distances -= squares(inside[:, 0] - self.origin)
        at = (np.log(np.maximum(distances, SMALLEST_DISTANCE)) - self.low) * self.scale
        below = np.clip(at.astype(np.int64), 0, self.last_part)
        share = np.clip(at - below, 0, 1)
        first = self.value_starts + below
        return np.asarray(self.values[first] * (1 - share) + self.values[first + 1] * share)


def _factors(curves: Sequence[Typicality]) -> list[Doubles]:
    """What scores without bias are multiplied with in turn: (g, K, q) and (g, q, c), or both in one."""
    if not len(curves[0].centers):
        return [_padded([curve.basis for curve in curves], 0.0).astype(np.float64)]
    if max(len(curve.basis) for curve in curves) <= MAX_BASIS:
        return [_padded([curve.basis @ curve.gap_slopes for curve in curves], 0.0)]
    return [
        _padded([curve.basis.astype(np.float64) for curve in curves], 0.0),
        _padded([curve.gap_slopes for curve in curves], 0.0),
    ]


def _padded(parts: Sequence[npt.NDArray[Any]], value: float) -> npt.NDArray[Any]:
    """Arrays of one rank in one, the smaller ones filled up at the end of each axis."""
    shape = np.max([part.shape for part in parts], axis=0)
    table = np.full((len(parts), *shape), value, dtype=parts[0].dtype)
    for row, part in zip(table, parts, strict=True):
        row[tuple(map(slice, part.shape))] = part
    return table
