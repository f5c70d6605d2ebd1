"""The support set of one fit: checked, transformed, and in an order that the caller's order cannot change.

Knows nothing about fitting. Rows and classes are ordered by content, so that neither the order of the
examples nor the names of the labels can change a fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from training.errors import NoExamplesError, SupportSetError, TooFewClassesError
from training.heads.transform import Floats, signed_power_l2

Ints = npt.NDArray[np.int64]
DIGEST_BYTES = 16


@dataclass(frozen=True, eq=False)
class SupportSet:
    """Labelled features in canonical order: by class, then by content.

    Attributes
    ----------
    features : (n, d) float32
    targets : (n,) int64, index into `labels`, ascending
    distinct : (n,) int64, equal within a class for identical inputs, ascending
    labels : name of each class, in canonical (not alphabetical) order
    shared_inputs : inputs that appear under more than one label
    """

    features: Floats
    targets: Ints
    distinct: Ints
    labels: tuple[str, ...]
    shared_inputs: int

    @property
    def counts(self) -> Ints:
        """Examples of each class: (k,) int64."""
        return np.bincount(self.targets, minlength=len(self.labels))

    @property
    def duplicates(self) -> int:
        """Examples that repeat another of their class."""
        return len(self.targets) - int(self.distinct[-1]) - 1


def check_embeddings(embeddings: object, error: type[Exception] = SupportSetError) -> Floats:
    """The embeddings as a contiguous (n, d) float32 array, or `error` that says what was expected."""
    try:
        array = np.asarray(embeddings)
    except ValueError as ragged:
        raise error(
            f"embeddings: expected an array of shape (n, d), got rows of different lengths ({ragged})"
        ) from ragged
    if array.ndim != 2 or array.shape[1] == 0:
        raise error(f"embeddings: expected shape (n, d) with d >= 1, got {array.shape}")
    if array.dtype.kind not in "fiu":
        raise error(f"embeddings: expected float32 values, got dtype {array.dtype}")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise error(f"embeddings: expected finite float32 values, got NaN or infinity in row {row}")
    return array


def gather(embeddings: object, labels: Sequence[str], seed: int) -> SupportSet:
    """Check, transform and order a support set.

    Raises
    ------
    NoExamplesError, TooFewClassesError, SupportSetError
        If it is empty, has one class only, or has a wrong shape, type or value.
    """
    names = _check_labels(labels)
    if not names:
        raise NoExamplesError("expected labelled examples of at least two classes, got none")
    array = check_embeddings(embeddings)
    if len(array) != len(names):
        raise SupportSetError(
            f"expected one label for each embedding, got {len(array)} embeddings and {len(names)} labels"
        )
    classes = sorted(set(names))
    if len(classes) < 2:
        raise TooFewClassesError(f"expected at least two classes, got one: {classes[0]!r}")
    return _in_canonical_order(signed_power_l2(array), names, classes, seed)


def _check_labels(labels: Sequence[str]) -> list[str]:
    if isinstance(labels, str):
        raise SupportSetError("labels: expected a sequence of strings, got one string")
    names = list(labels)
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise SupportSetError(f"labels: expected non-empty strings, got {name!r} at index {index}")
    return [str(name) for name in names]


def _in_canonical_order(features: Floats, names: list[str], classes: list[str], seed: int) -> SupportSet:
    key = seed.to_bytes(8, "big")
    digests = [blake2b(row, digest_size=DIGEST_BYTES, key=key).digest() for row in features]
    members: dict[str, list[tuple[bytes, int]]] = {name: [] for name in classes}
    for row, (name, digest) in enumerate(zip(names, digests, strict=True)):
        members[name].append((digest, row))
    # Names decide between classes of equal content only: those are interchangeable.
    ordered = sorted(([digest for digest, _ in sorted(rows)], name) for name, rows in members.items())
    flat = [
        (target, digest, row)
        for target, (_, name) in enumerate(ordered)
        for digest, row in sorted(members[name])
    ]
    new = [i == 0 or flat[i][:2] != flat[i - 1][:2] for i in range(len(flat))]
    distinct = np.cumsum(new) - 1
    return SupportSet(
        features=features[[row for _, _, row in flat]],
        targets=np.array([target for target, _, _ in flat], dtype=np.int64),
        distinct=distinct.astype(np.int64),
        labels=tuple(name for _, name in ordered),
        shared_inputs=int(distinct[-1]) + 1 - len(set(digests)),
    )
