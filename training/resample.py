"""Pixels -> a resized crop of them, turned upright: bicubic or bilinear, antialiased.

Two resamplers give the same but for rounding (0.2 levels on average): Pillow's, for its images, and a
vectorised one, for arrays, in a sixth of the time. Knows no file and no manifest.
"""

import threading
from typing import NamedTuple

import cykooz_resizer as fast
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.image_color import opaque

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]

_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Catmull-Rom is the cubic with a = -0.5, which Pillow calls bicubic.
_FAST = {
    "bilinear": fast.ResizeAlg.convolution(fast.FilterType.bilinear),
    "bicubic": fast.ResizeAlg.convolution(fast.FilterType.catmull_rom),
}
_THREAD = threading.local()  # a resizer keeps buffers, and is for one thread at a time


class Turn(NamedTuple):
    """How a stored image becomes the one that is seen: mirrored first, then its axes swapped."""

    swaps: bool
    mirrors_x: bool
    mirrors_y: bool

    def stored_box(self, seen: Box, width: int, height: int) -> Box:
        """A box of the image as it is seen, in coordinates of the stored image of `width` x `height`."""
        left, top, right, bottom = (seen[1], seen[0], seen[3], seen[2]) if self.swaps else seen
        if self.mirrors_x:
            left, right = width - right, width - left
        if self.mirrors_y:
            top, bottom = height - bottom, height - top
        return left, top, right, bottom

    def __call__(self, stored: Pixels) -> Pixels:
        """Pixels (height, width, 3) as they are seen; a view."""
        mirrored = stored[:: -1 if self.mirrors_y else 1, :: -1 if self.mirrors_x else 1]
        return mirrored.swapaxes(0, 1) if self.swaps else mirrored


# EXIF 2.32, tag 0x0112.
TURNS = {
    1: Turn(False, False, False),
    2: Turn(False, True, False),
    3: Turn(False, True, True),
    4: Turn(False, False, True),
    5: Turn(True, False, False),
    6: Turn(True, False, True),
    7: Turn(True, True, True),
    8: Turn(True, True, False),
}


def resample(image: Image.Image | Pixels, width: int, height: int, box: Box, interpolation: str) -> Pixels:
    """The part `box` of an image, resized to `width` x `height` pixels.

    Parameters
    ----------
    image : a Pillow image of any mode, or RGB pixels, uint8 (rows, columns, 3), contiguous
    box : left, top, right, bottom, in pixels, not whole ones as a rule
    interpolation : "bilinear" or "bicubic", the filter widened by the reduction

    Returns
    -------
    ndarray, uint8, shape (height, width, 3)

    Raises
    ------
    UnsupportedImageError
        A Pillow image of a colour model that is not read.
    """
    if isinstance(image, Image.Image):
        small = opaque(image).resize((width, height), _PILLOW[interpolation], box=box)
        return np.asarray(small.convert("RGB"))
    rows, columns, _ = image.shape
    left, top, right, bottom = box
    source = fast.ImageData(columns, rows, fast.PixelType.U8x3, image.tobytes())
    target = fast.ImageData(width, height, fast.PixelType.U8x3)
    crop = fast.CropBox(left, top, right - left, bottom - top)
    _resizer().resize(source, target, fast.ResizeOptions(_FAST[interpolation], crop_box=crop))
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(height, width, 3)


def _resizer() -> fast.Resizer:
    found: fast.Resizer | None = getattr(_THREAD, "resizer", None)
    if found is None:
        found = _THREAD.resizer = fast.Resizer()
    return found
