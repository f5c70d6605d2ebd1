"""Embeddings -> features of unit length. Knows no label.

The signed root damps the few channels that dominate a pooled convolutional embedding (Perronnin, Sanchez and
Mensink, "Improving the Fisher kernel for large-scale image classification", ECCV 2010). It helps with many
examples of fine differences and costs a little with one or two, so the fit chooses.
"""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Transform = Literal["l2", "signed_root_l2"]
TRANSFORMS: tuple[Transform, ...] = get_args(Transform)

# Lengths of which the square is an ordinary float32.
SMALLEST, LARGEST = 1e-15, 1e18

Floats = npt.NDArray[np.float32]


def transform_features(embeddings: Floats, transform: str, *, overwrite: bool = False) -> Floats:
    """Features of unit length; a zero embedding stays zero.

    Parameters
    ----------
    embeddings : (n, d) float32, finite
    transform : a name in `TRANSFORMS`
    overwrite : whether the embeddings may be lost, which saves memory

    Returns
    -------
    (n, d) float32. A row's result does not depend on the other rows, not even in its last bit.
    """
    lengths = _lengths(embeddings, transform)
    unusual = (lengths < SMALLEST) | (lengths > LARGEST)
    if unusual.any():
        # Squares would overflow or vanish: such a row is divided by its largest value first.
        peaks = np.abs(embeddings).max(axis=1, keepdims=True)
        embeddings = np.asarray(embeddings / np.where(unusual & (peaks > 0), peaks, np.float32(1)))
        overwrite = True
        lengths = _lengths(embeddings, transform)
        lengths = np.where(lengths > 0, lengths, np.float32(1))
    if transform == "l2":
        return np.asarray(np.divide(embeddings, lengths, out=embeddings if overwrite else None))
    features = np.sqrt(np.abs(embeddings))
    features /= lengths
    return np.asarray(np.copysign(features, embeddings, out=features))


def _lengths(embeddings: Floats, transform: str) -> Floats:
    """Length of each row before it is divided by it: (n, 1)."""
    with np.errstate(over="ignore"):
        if transform == "l2":
            squares = np.vecdot(embeddings, embeddings)
        elif transform == "signed_root_l2":
            squares = np.abs(embeddings).sum(axis=1)
        else:
            raise ValueError(f"transform: expected one of {TRANSFORMS}, got {transform!r}")
    return np.asarray(np.sqrt(squares))[:, None]
