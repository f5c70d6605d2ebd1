"""The support set of one fit: checked, and in an order that the caller's order cannot change.

Knows nothing about fitting. Rows and classes are ordered by content, so that neither the order of the
examples nor the names of the labels can change a fit. Equal examples become one with a multiplicity, so that
a copy of a held-out example is never trained on.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from training.heads.layers import Layer, layer_features, total_dim
from training.heads.options import SINGLE_LABEL
from training.heads.transform import Floats

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
NEGATIVE_LABEL = "__none__"  # of examples that belong to none of the classes


@dataclass(frozen=True, eq=False)
class SupportSet:
    """Distinct labelled rows in canonical order. K counts the classes and the negatives.

    Attributes
    ----------
    task : single_label or multi_label
    embeddings : (N, width) float32, as the caller gave them
    layers : those of its columns that features are made of, d in all
    origin : (n,) int64, row of `embeddings` of each distinct example; with one label each, ordered by class
    multiplicity : (n,) int64, how often each was given
    place : (N,) int64, the distinct example that each of the caller's rows became
    labels : names of the k classes in canonical (not alphabetical) order
    negatives : whether column K - 1 stands for "none of these"
    indicator : (n, K) bool; row i has its labels
    shared_inputs : inputs that appear under more than one label of a single-label set
    unseen : (n,) bool, whether the extractor was not trained on it; None if it was on none of them
    """

    task: str
    embeddings: Floats
    layers: tuple[Layer, ...]
    origin: Ints
    multiplicity: Ints
    place: Ints
    labels: tuple[str, ...]
    negatives: bool
    indicator: npt.NDArray[np.bool_]
    shared_inputs: int
    unseen: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.origin)

    @property
    def dimensions(self) -> int:
        """d."""
        return total_dim(self.layers)

    @property
    def width(self) -> int:
        """The number of columns of a whole row."""
        return int(self.embeddings.shape[1])

    def on(self, layers: tuple[Layer, ...]) -> "SupportSet":
        """The same examples with features of other layers of their rows."""
        return self if layers == self.layers else replace(self, layers=layers)

    @property
    def columns(self) -> int:
        """K."""
        return int(self.indicator.shape[1])

    @property
    def is_single(self) -> bool:
        return self.task == SINGLE_LABEL

    @cached_property
    def targets(self) -> Ints:
        """(n,) int64, the column of each example of a single-label set, ascending."""
        return np.asarray(self.indicator.argmax(axis=1))

    @cached_property
    def distinct_counts(self) -> Ints:
        """Distinct examples of each column: (K,) int64."""
        return np.asarray(self.indicator.sum(axis=0))

    @cached_property
    def counts(self) -> Ints:
        """Examples of each column, with their copies: (K,) int64."""
        if self.is_single:
            return np.add.reduceat(self.multiplicity, self.starts)
        return np.asarray(self.multiplicity @ self.indicator)

    @property
    def duplicates(self) -> int:
        """Examples that repeat another."""
        return int(self.multiplicity.sum()) - len(self)

    @cached_property
    def weights(self) -> Doubles:
        """Weight of each example: (n,). In a single-label set every column has the same total.

        With 4 to 40 examples a class, balanced weights beat none in balanced accuracy by 2 to 11 points.
        """
        if not self.is_single:
            return self.multiplicity.astype(np.float64)
        scale = self.multiplicity.sum() / (self.columns * self.counts)
        return np.asarray(self.multiplicity * scale[self.targets])

    @cached_property
    def can_be_held_out(self) -> npt.NDArray[np.bool_]:
        """Whether something remains of an example's class without it: (n,).

        Never an example that the extractor was trained on: what it says of that flatters it.
        """
        if not self.is_single:
            found = np.full(len(self), len(self) > 1)
        else:
            found = np.asarray(self.distinct_counts[self.targets] > 1)
        return found if self.unseen is None else found & self.unseen

    def features(self, transform: str, rows: Ints | slice = slice(None)) -> Floats:
        """Features of some rows."""
        used = slice(self.layers[0].start, self.layers[-1].stop)
        layers = [
            Layer(layer.name, layer.start - used.start, layer.stop - used.start) for layer in self.layers
        ]
        return layer_features(self.embeddings[:, used][self.origin[rows]], layers, transform, overwrite=True)

    def sums(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """values @ indicator, for values (m, n): sums over the examples of each column, (m, K)."""
        if self.is_single:
            return np.asarray(np.add.reduceat(values, self.starts, axis=1))
        return np.asarray(values @ self.indicator.astype(values.dtype))

    def sums_of_symmetric(self, matrix: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """`sums` of a symmetric matrix (n, n): those of its rows are the same, and fast for equal classes."""
        if not self.is_single or self.distinct_counts.min() < self.distinct_counts.max():
            return self.sums(matrix)
        return np.ascontiguousarray(matrix.reshape(self.columns, -1, len(self)).sum(axis=1).T)

    def indicator_less(
        self, values: npt.NDArray[np.floating], rows: Ints | slice = slice(None)
    ) -> npt.NDArray[np.floating]:
        """Indicator (m, K) of some rows minus values (m, K), in the precision of the values."""
        found: npt.NDArray[np.floating] = np.negative(values)
        if self.is_single:
            found[np.arange(len(found)), self.targets[rows]] += 1
        else:
            found += self.indicator[rows]
        return found

    @property
    def held_in_weights(self) -> Doubles:
        """`weights` for when one distinct example of every class is left out."""
        left = np.where(self.distinct_counts > 1, 1 - 1 / self.distinct_counts, 1.0)
        return np.asarray(self.weights / left[self.targets] * (left @ self.counts) / self.counts.sum())

    def turns(self) -> Ints:
        """Rows (f, c) to leave out together: one of each class that has two, until each had a turn."""
        classes = np.flatnonzero(self.distinct_counts > 1)
        counts = self.distinct_counts[classes]
        turn = np.arange(counts.max(initial=0))[:, None]
        return np.asarray(self.starts[classes] + turn % counts)

    def sample(self, most: int) -> Ints:
        """At most about `most` rows that stand for all, ascending: at least two of a class, or none of it."""
        if len(self) <= most:
            return np.arange(len(self))
        if not self.is_single:
            rows = self._first_unseen(np.arange(len(self)))[:most] if self.unseen is not None else None
            return evenly(len(self), most) if rows is None else np.sort(rows)
        quota = max(2, most // self.columns)
        place = np.arange(len(self)) - self.starts[self.targets]  # in its class
        if self.unseen is not None:
            order = np.lexsort((place, ~self.unseen, self.targets))
            place = place[np.argsort(order)]
        return np.flatnonzero((place < quota) & (self.targets < max(2, most // quota)))

    def _first_unseen(self, rows: Ints) -> Ints:
        """The same rows, those that can be asked about first."""
        return rows if self.unseen is None else rows[np.argsort(~self.unseen[rows], kind="stable")]

    def spread(self, most: int) -> Ints:
        """At most about `most` rows in the proportions of all, ascending, and two of every class."""
        if len(self) <= most:
            return np.arange(len(self))
        asked = np.arange(len(self))
        if self.unseen is not None and self.unseen.any():
            asked = np.flatnonzero(self.unseen)
        rows = asked[evenly(len(asked), most)]
        if not self.is_single:
            return rows
        few = np.bincount(self.targets[rows], minlength=self.columns) < 2
        ends = self.starts + np.minimum(self.distinct_counts, 2) - 1
        return np.unique(np.concatenate((rows, self.starts[few], ends[few])))

    def subset(self, rows: Ints) -> "SupportSet":
        """Some rows, ascending, with the columns that they have."""
        columns = np.flatnonzero(self.indicator[rows].any(axis=0)) if self.is_single else slice(None)
        return SupportSet(
            task=self.task,
            embeddings=self.embeddings,
            layers=self.layers,
            origin=self.origin[rows],
            multiplicity=self.multiplicity[rows],
            place=np.arange(len(rows)),
            labels=(),
            negatives=False,
            indicator=self.indicator[rows][:, columns],
            shared_inputs=0,
            unseen=None if self.unseen is None else self.unseen[rows],
        )

    @cached_property
    def starts(self) -> Ints:
        """First row of each column of a single-label set: (K,) int64."""
        return np.concatenate(([0], np.cumsum(self.distinct_counts)[:-1]))


def evenly(count: int, most: int) -> Ints:
    """At most `most` of `count` positions, evenly spread, ascending."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)
