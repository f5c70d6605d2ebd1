"""Synthetic images for the tests of decoding, and what they must become."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.manifest import Preprocess

SPEC = Preprocess("short_side", 256, 224, 224, "bicubic", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))


def scene(width: int = 320, height: int = 240) -> Image.Image:
    """A smooth RGB image without any symmetry, so that every turn of it looks different."""
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    red = 250 * x
    green = 250 * y
    blue = 120 + 100 * np.sin(9 * x + 4 * y * y)
    return Image.fromarray(np.rint(np.stack([red, green, blue], axis=2)).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(image: Image.Image) -> bytes:
    return encode(image, "PNG")


def rgb_of(levels: NDArray[np.floating]) -> Image.Image:
    """Grey (h, w) or colour (h, w, 3) levels from 0 to 255 as an RGB image."""
    return Image.fromarray(np.rint(levels).astype(np.uint8)).convert("RGB")


def difference(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.abs(found.astype(np.int64) - expected)
