"""Small images that differ by a number."""

import io

import numpy as np
from PIL import Image


def png(number: int, side: int = 8) -> bytes:
    """A PNG of noise around a shade; another number gives other bytes."""
    pixels = np.random.default_rng(number).normal(number % 256, 20, (side, side, 3)).clip(0, 255)
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()
