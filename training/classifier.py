"""The classifier that a pretrained network came with, as arrays on disk. Knows no network."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import ManifestError
from training.manifest import FILES


@dataclass(frozen=True)
class Classifier:
    """A linear layer over embeddings: weight (k, dim) float32, bias (k,) float32, and k class names."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    classes: tuple[str, ...]

    @property
    def dim(self) -> int:
        return int(self.weight.shape[1])

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores, shape (n, k), of embeddings, shape (n, dim)."""
        return embeddings @ self.weight.T + self.bias

    def save(self, folder: Path) -> None:
        """Write `classifier.npz`; the same arrays always give the same bytes."""
        np.savez(
            folder / FILES.classifier, weight=self.weight, bias=self.bias, classes=np.array(self.classes)
        )

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Read `classifier.npz` of an extractor folder.

        Raises
        ------
        ManifestError
            The file is missing or is not a classifier.
        """
        path = folder / FILES.classifier
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(arrays["weight"], arrays["bias"], tuple(map(str, arrays["classes"])))
        except (OSError, ValueError, KeyError) as error:
            raise ManifestError(f"{path} cannot be read: {error}") from error
