"""Embeddings -> features: a signed power, then L2 normalisation. Knows no label.

A power below 1 damps the few channels that dominate a pooled convolutional embedding (Perronnin, Sanchez and
Mensink, "Improving the Fisher kernel for large-scale image classification", ECCV 2010, with the power 1/2).
"""

import numpy as np
import numpy.typing as npt

TRANSFORM = "signed_power_0.75_l2"  # 1/2 was worse on blood_cells, 1 on ham10000: docs/experiments.md
CHUNK_ROWS = 4096

Floats = npt.NDArray[np.float32]


def signed_power_l2(embeddings: Floats) -> Floats:
    """Features of unit length; a zero embedding stays zero.

    Parameters
    ----------
    embeddings : (n, d) float32, finite

    Returns
    -------
    (n, d) float32. A row's result does not depend on the other rows, not even in its last bit.
    """
    features = np.empty(embeddings.shape, dtype=np.float32)
    for start in range(0, len(embeddings), CHUNK_ROWS):
        rows = embeddings[start : start + CHUNK_ROWS]
        roots = np.sqrt(np.abs(rows).astype(np.float64))
        powers = roots * np.sqrt(
            roots
        )  # |x| to the 3/4 by correctly rounded steps, the same on every machine
        lengths = np.sqrt(np.vecdot(powers, powers))[:, None]
        np.divide(powers, lengths, out=powers, where=lengths > 0)
        features[start : start + CHUNK_ROWS] = np.copysign(powers, rows)
    features += np.float32(0)  # -0.0 becomes 0.0, so that equal inputs are equal bytes
    return features
