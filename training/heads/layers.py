"""Layers: named blocks of columns of an extractor's rows, and features of several of them. Knows no label.

Each layer becomes features of its own, all of the same length, so that none counts more for having more
columns or larger values.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from training.errors import SupportSetError
from training.heads.transform import Floats, transform_features

EMBEDDING = "embedding"


@dataclass(frozen=True)
class Layer:
    """The columns `start` to `stop` of a row."""

    name: str
    start: int
    stop: int

    @property
    def dim(self) -> int:
        return self.stop - self.start

    @property
    def columns(self) -> slice:
        return slice(self.start, self.stop)


def layers_of(dims: Mapping[str, int]) -> tuple[Layer, ...]:
    """The layers of a row, of which `dims` gives the lengths in order."""
    found, start = [], 0
    for name, dim in dims.items():
        found.append(Layer(name, start, start + dim))
        start += dim
    return tuple(found)


def named(layers: Sequence[Layer], names: Iterable[str]) -> tuple[Layer, ...]:
    """The layers of some names, in the order of the row.

    Raises
    ------
    SupportSetError
        If there is no layer of a name; the message lists those there are.
    """
    wanted, known = set(names), {layer.name for layer in layers}
    for name in sorted(wanted - known):
        there = ", ".join(layer.name for layer in layers)
        raise SupportSetError(f"layers: expected some of {there}, got {name!r}")
    return tuple(layer for layer in layers if layer.name in wanted)


def total_dim(layers: Iterable[Layer]) -> int:
    """The number of columns of some layers."""
    return sum(layer.dim for layer in layers)


def side_by_side(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The same layers in a row that has nothing else."""
    return layers_of({layer.name: layer.dim for layer in layers})


def layer_features(
    rows: Floats, layers: Sequence[Layer], transform: str, *, overwrite: bool = False
) -> Floats:
    """Features of some layers side by side: (n, sum of their dims) float32, of unit length.

    Parameters
    ----------
    rows : (n, width) float32, finite
    transform : a name in `TRANSFORMS`, applied to each layer
    overwrite : whether the rows may be lost, which saves memory
    """
    parts = [
        transform_features(np.ascontiguousarray(rows[:, layer.columns]), transform, overwrite=overwrite)
        for layer in layers
    ]
    if len(parts) == 1:
        return parts[0]
    features = np.concatenate(parts, axis=1)
    features *= np.float32(1 / sqrt(len(parts)))
    return features
