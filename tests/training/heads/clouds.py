"""Synthetic support sets: classes as Gaussian clouds, non-negative like pooled embeddings."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def clouds(
    classes: int, shots: int, *, dim: int = 48, spread: float = 1.0, seed: int = 0
) -> tuple[Floats, list[str]]:
    """Embeddings (classes * shots, dim) and labels "class 00", "class 01", ..."""
    rng = np.random.default_rng(seed)
    centers = 2 * rng.standard_normal((classes, dim))
    points = np.repeat(centers, shots, axis=0) + spread * rng.standard_normal((classes * shots, dim))
    labels = [f"class {index // shots:02d}" for index in range(classes * shots)]
    return np.maximum(points, 0).astype(np.float32), labels
