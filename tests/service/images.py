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


def sided(number: int, side: str, size: int = 8) -> bytes:
    """A PNG that is bright on the left or on the right; another number gives other noise."""
    random = np.random.default_rng(number)
    pixels = random.normal(90, 25, (size, size, 3))
    half = slice(0, size // 2) if side == "left" else slice(size // 2, size)
    pixels[:, half] += 60
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()
