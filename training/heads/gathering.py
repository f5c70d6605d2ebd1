"""From the embeddings and labels of a caller to a support set: checked, and in canonical order.

Knows nothing about fitting.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from training.errors import NoExamplesError, SupportSetError, TooFewClassesError
from training.heads.layers import EMBEDDING, Layer, layers_of, total_dim
from training.heads.options import SINGLE_LABEL
from training.heads.support import NEGATIVE_LABEL, Ints, SupportSet
from training.heads.transform import Floats

DIGEST_BYTES = 16
DIGEST_VALUES = 64  # of a row: enough to tell real embeddings apart


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
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.ascontiguousarray(array, dtype=np.float32)
        total = array.sum()
    # One pass: a sum is finite only if all of it is, or it overflowed.
    if not np.isfinite(total) and not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise error(f"embeddings: expected finite float32 values, got NaN or infinity in row {row}")
    return array


def gather(
    embeddings: object,
    labels: Sequence[str] | Sequence[Collection[str]],
    task: str,
    seed: int,
    layer_dims: Mapping[str, int] | None = None,
    unseen: Sequence[bool] | None = None,
) -> SupportSet:
    """Check and order a support set; its features are of all layers.

    Parameters
    ----------
    embeddings : (N, width) float32, finite
    layer_dims : length of each layer of a row, in order; None for rows that are an embedding and nothing else
    labels : a label for each row (single_label), or a collection of labels for each row (multi_label)
    unseen : whether the extractor was not trained on each row; None if it was on none of them

    Raises
    ------
    NoExamplesError, TooFewClassesError, SupportSetError
        If it is empty, has too few classes, or has a wrong shape, type or value.
    """
    single = task == SINGLE_LABEL
    sets = [] if single else _label_sets(labels)
    names = _single_labels(labels) if single else []
    if not len(labels):
        raise NoExamplesError("expected labelled examples of at least two classes, got none")
    array = check_embeddings(embeddings)
    if len(array) != len(labels):
        raise SupportSetError(
            f"expected one label for each embedding, got {len(array)} embeddings and {len(labels)} labels"
        )
    layers = layers_of({EMBEDDING: array.shape[1]} if layer_dims is None else layer_dims)
    if total_dim(layers) != array.shape[1]:
        raise SupportSetError(
            f"embeddings: expected rows of {total_dim(layers)} columns, got {array.shape[1]}"
        )
    found = set(names).union(*sets)
    classes = sorted(found - {NEGATIVE_LABEL})
    negatives = single and NEGATIVE_LABEL in found
    if len(classes) < 2:
        got = "none" if not classes else f"one: {classes[0]!r}"
        raise TooFewClassesError(f"expected at least two classes, got {got}")
    halves = _digests(array, seed.to_bytes(8, "big"))
    columns = [*classes, NEGATIVE_LABEL] if negatives else classes
    number = {name: index for index, name in enumerate(columns)}
    if single:
        codes = np.array([number[name] for name in names])
        return _with_unseen(_one_label_each(array, layers, halves, codes, columns, negatives), unseen)
    indicator = np.zeros((len(sets), len(columns)), dtype=bool)
    for row, given in enumerate(sets):
        indicator[row, [number[name] for name in given if name != NEGATIVE_LABEL]] = True
    return _with_unseen(_any_labels(array, layers, halves, indicator, columns), unseen)


def _with_unseen(support: SupportSet, unseen: Sequence[bool] | None) -> SupportSet:
    """The support set with what the extractor was not trained on; a copy of what it was counts as that."""
    if unseen is None:
        return support
    if len(unseen) != len(support.place):
        raise SupportSetError(f"unseen: expected {len(support.place)} values, got {len(unseen)}")
    found = np.ones(len(support), dtype=bool)
    found[support.place[~np.asarray(unseen, dtype=bool)]] = False
    return replace(support, unseen=found)


def _digests(array: Floats, key: bytes) -> npt.NDArray[np.uint64]:
    """A digest of each row, in two halves: (n, 2). Of its first values only, unless others share them."""
    found = _hashed(array[:, :DIGEST_VALUES], key)
    order = np.argsort(found[:, 0], kind="stable")
    same = found[order[1:], 0] == found[order[:-1], 0]
    if same.any() and array.shape[1] > DIGEST_VALUES:
        rows = order[np.append(same, False) | np.append(False, same)]
        found[rows] = _hashed(array[rows], key)
    return found


def _hashed(array: Floats, key: bytes) -> npt.NDArray[np.uint64]:
    width = array.shape[1] * array.itemsize
    data = array.tobytes()
    digests = b"".join(
        [
            blake2b(data[start : start + width], digest_size=DIGEST_BYTES, key=key).digest()
            for start in range(0, len(data), width)
        ]
    )
    return np.frombuffer(digests, dtype=">u8").reshape(-1, 2).astype(np.uint64)


def _single_labels(labels: Sequence[object]) -> list[str]:
    if isinstance(labels, str):
        raise SupportSetError("labels: expected a sequence of strings, got one string")
    return [name if type(name) is str and name else _label(name, index) for index, name in enumerate(labels)]


def _label_sets(labels: Sequence[object]) -> list[tuple[str, ...]]:
    sets = []
    for index, names in enumerate(labels):
        if isinstance(names, str) or not isinstance(names, Collection):
            raise SupportSetError(f"labels: expected a collection of strings at index {index}, got {names!r}")
        sets.append(tuple(_label(name, index) for name in names))
    return sets


def _label(name: object, index: int) -> str:
    if not isinstance(name, str) or not name:
        raise SupportSetError(f"labels: expected non-empty strings, got {name!r} at index {index}")
    return str(name)


def _distinct(order: Ints, *keys: npt.NDArray[Any]) -> tuple[Ints, Ints]:
    """Where in `order` a run of rows with equal keys begins, and the number of the run of each row."""
    new = np.ones(len(order), dtype=bool)
    new[1:] = np.any([(key[1:] != key[:-1]).any(axis=1) for key in keys], axis=0)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.cumsum(new) - 1
    return np.flatnonzero(new), place


def _one_label_each(
    array: Floats,
    layers: tuple[Layer, ...],
    halves: npt.NDArray[np.uint64],
    codes: Ints,
    columns: Sequence[str],
    negatives: bool,
) -> SupportSet:
    by_class = np.lexsort((halves[:, 1], halves[:, 0], codes))
    starts = np.searchsorted(codes[by_class], np.arange(len(columns) + 1))
    sorted_halves = halves[by_class]
    spans = list(pairwise(starts.tolist()))
    blocks = [by_class[start:stop] for start, stop in spans]
    contents = [sorted_halves[start:stop].tobytes() for start, stop in spans]
    # Names decide between classes of equal content only: those are interchangeable. Negatives come last.
    ranked = sorted(
        range(len(columns)),
        key=lambda code: (columns[code] == NEGATIVE_LABEL, contents[code], columns[code]),
    )
    order = np.concatenate([blocks[code] for code in ranked])
    targets = np.repeat(np.arange(len(columns)), [len(blocks[code]) for code in ranked])
    first, place = _distinct(order, halves[order], targets[:, None])
    indicator = np.zeros((len(first), len(columns)), dtype=bool)
    indicator[np.arange(len(first)), targets[first]] = True
    return SupportSet(
        task="single_label",
        embeddings=array,
        layers=layers,
        origin=order[first],
        multiplicity=np.diff(first, append=len(order)),
        place=place,
        labels=tuple(columns[code] for code in ranked if columns[code] != NEGATIVE_LABEL),
        negatives=negatives,
        indicator=indicator,
        shared_inputs=len(first) - len(np.unique(halves[order[first], 0])),
    )


def _any_labels(
    array: Floats,
    layers: tuple[Layer, ...],
    halves: npt.NDArray[np.uint64],
    indicator: npt.NDArray[np.bool_],
    columns: Sequence[str],
) -> SupportSet:
    # Names decide between examples of equal content only.
    by_content = np.lexsort((*indicator.T[::-1], halves[:, 1], halves[:, 0]))
    ranked = sorted(
        range(len(columns)), key=lambda column: (indicator[by_content, column].tobytes(), columns[column])
    )
    indicator = indicator[:, ranked]
    order = np.lexsort((*indicator.T[::-1], halves[:, 1], halves[:, 0]))
    rows = indicator[order]
    first, place = _distinct(order, halves[order], rows)
    return SupportSet(
        task="multi_label",
        embeddings=array,
        layers=layers,
        origin=order[first],
        multiplicity=np.diff(first, append=len(order)),
        place=place,
        labels=tuple(columns[column] for column in ranked),
        negatives=False,
        indicator=rows[first],
        shared_inputs=0,
    )
