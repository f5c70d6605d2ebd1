"""What the taps of a network look like on the images it was trained on, known without those images.

Means and deviations of the channels, which batch normalisation left in the weights. How far other images are
from them says how unlike the source these are. Knows no network: `training/backbones/moments.py` does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from training.errors import ManifestError
from training.manifest import FILES

Floats = npt.NDArray[np.float32]
MEAN, STD = "_mean", "_std"
SMALLEST_STD = 1e-6  # a channel that never changes would be infinitely far off after any rounding


@dataclass(frozen=True, eq=False)
class Channels:
    """Of each channel of one tap, over all pixels of all source images: mean and std, (dim,) float32."""

    mean: Floats
    std: Floats

    def distance(self, pooled: npt.NDArray[np.floating]) -> float:
        """How far images are from the source: 0 if their mean is the source's.

        The root mean square, over the channels, of the difference between the mean over images and the
        source's mean, in units of the source's deviation.

        Parameters
        ----------
        pooled : (n, dim) channel means of n images, n at least 1
        """
        shift = (pooled.mean(axis=0, dtype=np.float64) - self.mean) / np.maximum(self.std, SMALLEST_STD)
        return float(np.sqrt(np.mean(shift**2)))


@dataclass(frozen=True, eq=False)
class SourceStatistics:
    """The channels of each tap, by its name, in the order of the manifest."""

    taps: Mapping[str, Channels]

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", MappingProxyType(dict(self.taps)))

    def save(self, folder: Path) -> None:
        """Write `source.npz`; the same content always gives the same bytes."""
        arrays: dict[str, Floats] = {}
        for name, channels in self.taps.items():
            arrays |= {name + MEAN: channels.mean, name + STD: channels.std}
        np.savez(folder / FILES.source, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, folder: Path) -> "SourceStatistics | None":
        """Read `source.npz` of an extractor folder; None if it has none.

        Raises
        ------
        ManifestError
            The file holds something else.
        """
        path = folder / FILES.source
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                names = [key.removesuffix(MEAN) for key in arrays if key.endswith(MEAN)]
                taps = {name: Channels(arrays[name + MEAN], arrays[name + STD]) for name in names}
        except (OSError, ValueError, KeyError) as error:
            raise ManifestError(f"{path} cannot be read: {error}") from error
        if not taps or any(channels.mean.shape != channels.std.shape for channels in taps.values()):
            raise ManifestError(f"{path} does not hold a mean and a std of each tap")
        return cls(taps)
