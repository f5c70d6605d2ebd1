"""A few inputs and the rows they must give: what proves, at load, that an extractor still is itself.

The inputs are synthetic and encoded, so that the check covers decoding too. Knows no torch and no runtime.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.errors import ManifestError
from training.manifest import FILES, Preprocess
from training.preprocess import decode_image

# Float32 on another processor or provider differs by about 1e-6, another JPEG decoder or resampler by about
# 1.5e-2, wrong preprocessing by more than 0.1.
GOLDEN_BOUND = 4e-2


@dataclass(frozen=True)
class Golden:
    """Encoded images, and their rows: float32 (n, width), computed in float64 by the network itself."""

    inputs: tuple[bytes, ...]
    rows: NDArray[np.float32]

    def pixels(self, spec: Preprocess) -> NDArray[np.uint8]:
        """The inputs as the graph takes them, uint8 (n, height, width, 3)."""
        return np.stack([decode_image(data, spec) for data in self.inputs])

    def save(self, folder: Path, name: str = FILES.golden) -> None:
        """Write the file `name`; the same content always gives the same bytes."""
        inputs = {f"input_{i}": np.frombuffer(data, np.uint8) for i, data in enumerate(self.inputs)}
        arrays: dict[str, NDArray[Any]] = {"rows": self.rows, **inputs}
        np.savez(folder / name, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, folder: Path, name: str = FILES.golden) -> "Golden":
        """Read the file `name` of an extractor folder: `golden.npz`, or that of a variant.

        Raises
        ------
        ManifestError
            The file is missing or holds something else.
        """
        path = folder / name
        try:
            with np.load(path, allow_pickle=False) as arrays:
                rows = arrays["rows"]
                inputs = tuple(arrays[f"input_{i}"].tobytes() for i in range(len(rows)))
        except (OSError, ValueError, KeyError) as error:
            raise ManifestError(f"{path} cannot be read: {error}") from error
        return cls(inputs, rows)


def relative_error(found: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Greatest ratio, over the rows of two (n, dim) arrays, of the length of the difference to the expected.

    Infinite where a value is not finite or the shapes differ.
    """
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    difference = np.linalg.norm(found.astype(np.float64) - expected, axis=1)
    length = np.linalg.norm(expected.astype(np.float64), axis=1)
    return float(np.max(difference / np.maximum(length, np.finfo(np.float32).tiny)))


def rows_error(
    found: NDArray[np.floating], expected: NDArray[np.floating], layer_dims: Mapping[str, int]
) -> float:
    """The `relative_error` of the worst layer: a long layer does not hide what is wrong with a short one.

    Parameters
    ----------
    found, expected : (n, width) rows
    layer_dims : length of each layer, in the order of a row
    """
    if found.shape != expected.shape or found.shape[1] != sum(layer_dims.values()):
        return float("inf")
    ends = np.cumsum(list(layer_dims.values()))[:-1]
    layers = zip(np.split(found, ends, axis=1), np.split(expected, ends, axis=1), strict=True)
    return max(relative_error(*layer) for layer in layers)


def synthetic_inputs() -> tuple[bytes, ...]:
    """Encoded test images: colour, grey, wide, tall, smaller and larger than the input of any network."""
    return tuple(_encode(image, kind) for image, kind in _patterns())


def _patterns() -> Iterator[tuple[Image.Image, str]]:
    yield Image.fromarray(_plaid(300, 400, 37.0)), "PNG"
    yield Image.fromarray(_discs(480, 360)), "JPEG"
    yield Image.fromarray(_plaid(64, 150, 11.0)[:, :, 0]), "PNG"
    yield Image.fromarray(_discs(700, 1200)), "JPEG"


def _encode(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "PNG":
        # Stored, not compressed: compressors differ between machines, and with them the sha256.
        image.save(stream, kind, compress_level=0)
    else:
        image.save(stream, kind, quality=90)
    return stream.getvalue()


def _plaid(height: int, width: int, period_px: float) -> NDArray[np.uint8]:
    """Crossing waves, another in each channel; uint8 (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(2 * np.pi * (x * (c + 1) + y * (3 - c)) / (2 * period_px)) for c in range(3)]
    return np.rint(127.5 + 110 * np.stack(waves, axis=2)).astype(np.uint8)


def _discs(height: int, width: int) -> NDArray[np.uint8]:
    """Coloured discs on a gradient; uint8 (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    canvas = np.stack([x * 200 // width, y * 200 // height, (x + y) * 255 // (width + height)], axis=2)
    for i in range(9):
        centre_x, centre_y = (i * 131 + 60) % width, (i * 197 + 80) % height
        inside = (x - centre_x) ** 2 + (y - centre_y) ** 2 < (20 + 9 * i) ** 2
        canvas[inside] = [(i * 83) % 256, (i * 151 + 70) % 256, (255 - i * 29) % 256]
    return canvas.astype(np.uint8)
