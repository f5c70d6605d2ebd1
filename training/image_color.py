"""A Pillow image of any mode -> 8-bit grey or RGB without transparency. Knows no files and no networks."""

import numpy as np
from PIL import Image

from training.errors import UnsupportedImageError

WHITE = (255, 255, 255)
_WIDE_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_PALETTE_MODES = frozenset({"P", "PA"})
# The white points that integer and floating-point images are made with.
_WHITE_LEVELS = (1, 255, 65535)


def opaque(image: Image.Image) -> Image.Image:
    """Grey ("L") or "RGB", 8 bits; transparency is composited on white.

    Palettes are expanded, CMYK is converted by complement, embedded colour profiles are ignored, as they
    were when the networks were trained. Wide greys are scaled, see `_narrow`.

    Raises
    ------
    UnsupportedImageError
        A colour model that has no conversion here (LAB), a palette that is missing, or pixels that are not
        finite numbers.
    """
    if image.mode in _WIDE_MODES:
        return _narrow(image)
    if image.mode in _PALETTE_MODES and image.palette is None:
        raise UnsupportedImageError("the colours of the image are those of a palette, and it has none")
    try:
        if image.has_transparency_data:
            return _on_white(image.convert("RGBA"))
        return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")
    except ValueError as error:
        raise UnsupportedImageError(f"images of mode {image.mode} are not read: {error}") from error


def _on_white(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size, WHITE)
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def _narrow(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and floating-point grey as 8 bits: scaled, never clipped.

    16 bits are scaled by 255 / 65535. A 32-bit integer or floating-point image does not say what white is:
    it is the first of 1 (floating point only), 255, 65535 that no pixel exceeds. Pixels that are negative or
    larger still are stretched from their least to their greatest.
    """
    levels = np.asarray(image)
    low, high = float(levels.min()), float(levels.max())
    if not np.isfinite([low, high]).all():
        raise UnsupportedImageError("the image has pixels that are not finite numbers")
    if image.mode.startswith("I;16"):
        white = 65535
    else:
        candidates = _WHITE_LEVELS if image.mode == "F" else _WHITE_LEVELS[1:]
        white = next((level for level in candidates if high <= level), 0)
    black = 0.0 if low >= 0 and white else low
    span = float(white) if low >= 0 and white else high - low
    scaled = (levels.astype(np.float64) - black) * (255.0 / span) if span else np.zeros(levels.shape)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))
