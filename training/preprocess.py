"""Bytes of an image -> the pixels an extractor takes; the same code for training and serving.

Knows the geometry (orientation, resize, crop) that a manifest asks for. The arithmetic on pixel values
(mean, std) is inside the extractor's graph. Knows no network and no request.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.image_color import opaque
from training.image_file import DecodeLimits, LoadedImage, load_image
from training.manifest import Preprocess

__all__ = ["DEFAULT_LIMITS", "DecodeLimits", "crop_box", "decode_image", "preprocess_steps"]

DEFAULT_LIMITS = DecodeLimits()

# A JPEG is decoded smaller only while its short side stays this many times the side it is resized to. With 2,
# a large photograph changes by 0.6 levels on average at most, and EfficientNet-Lite0's embedding keeps a
# cosine of 0.998 at least (a test holds both bounds); with 1 it changes by 2 levels and keeps 0.991.
JPEG_MARGIN = 2

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

Box = tuple[float, float, float, float]


class _Turn(NamedTuple):
    """How a stored image becomes the one that is seen: Pillow's operation, and the same for coordinates."""

    operation: Image.Transpose
    swaps: bool
    mirrors_x: bool
    mirrors_y: bool


# EXIF 2.32, tag 0x0112. 1 is upright.
_TURNS = {
    2: _Turn(Image.Transpose.FLIP_LEFT_RIGHT, False, True, False),
    3: _Turn(Image.Transpose.ROTATE_180, False, True, True),
    4: _Turn(Image.Transpose.FLIP_TOP_BOTTOM, False, False, True),
    5: _Turn(Image.Transpose.TRANSPOSE, True, False, False),
    6: _Turn(Image.Transpose.ROTATE_270, True, False, True),
    7: _Turn(Image.Transpose.TRANSVERSE, True, True, True),
    8: _Turn(Image.Transpose.ROTATE_90, True, True, False),
}


def decode_image(data: bytes, spec: Preprocess, limits: DecodeLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode, orient, resize and crop one image.

    Only the crop is resampled, from the part of the image that it covers: a strip of 1 x 60000 pixels never
    becomes one of 256 x 15 million. The result is that of resizing all of it and cropping then, but for the
    rounding between the two passes of the resampling, whose order Pillow chooses (a third of a level on
    average, for noise).

    Parameters
    ----------
    data : bytes
        A JPEG, PNG, WebP, GIF (first frame), BMP or TIFF file.
    spec : Preprocess
        `preprocess` of an extractor's manifest.
    limits : DecodeLimits

    Returns
    -------
    ndarray, uint8, shape (crop_height, crop_width, 3)
        RGB, contiguous and writable.

    Raises
    ------
    InputError
        EmptyInputError, UnsupportedImageError, TruncatedImageError or ImageTooLargeError; no bytes raise
        anything else.
    """
    loaded = load_image(data, limits, JPEG_MARGIN * _resized_side_px(spec))
    return np.array(_resample(loaded, spec).convert("RGB"))


def crop_box(width: int, height: int, spec: Preprocess) -> Box:
    """The part (left, top, right, bottom) of a `width` x `height` image that becomes the crop, in pixels.

    Rounds as torchvision's Resize and CenterCrop do: the long side down, the offset half to even.
    """
    if spec.resize == "exact" or spec.resize_short_side_px is None:
        return 0.0, 0.0, float(width), float(height)
    short, side = min(width, height), spec.resize_short_side_px
    resized_width = side if width == short else int(side * width / height)
    resized_height = side if height == short else int(side * height / width)
    left = round((resized_width - spec.crop_width) / 2)
    top = round((resized_height - spec.crop_height) / 2)
    x, y = width / resized_width, height / resized_height
    # min: the product may exceed the side by a rounding error, which Pillow refuses.
    right = min(float(width), (left + spec.crop_width) * x)
    bottom = min(float(height), (top + spec.crop_height) * y)
    return left * x, top * y, right, bottom


def preprocess_steps(spec: Preprocess) -> tuple[str, ...]:
    """The preprocessing in words, for the manifest."""
    height, width = spec.crop_height, spec.crop_width
    resize = (
        f"Resize to {width} x {height} pixels (width x height)"
        if spec.resize == "exact"
        else f"Resize so that the short side has S = {spec.resize_short_side_px} pixels and the long side "
        "int(S * long / short)"
    )
    crop = (
        f"Crop {width} x {height} pixels (width x height) at left = round((W - {width}) / 2), "
        f"top = round((H - {height}) / 2), half to even, of the resized W x H"
    )
    return (
        "Decode the first frame and turn it as its EXIF orientation says.",
        "Make it 8-bit RGB: grey repeated, palette expanded, 16 bits scaled by 255 / 65535, colour profiles "
        "ignored, transparency composited on white.",
        f"{resize}, {spec.interpolation} with the filter widened by the reduction (antialiasing), rounded to "
        "8 bits, as Pillow's Image.resize does. A JPEG whose sides are all at least "
        f"{JPEG_MARGIN} * n * {_resized_side_px(spec)} pixels, n = 2, 4 or 8, may be decoded at 1/n first.",
        *(() if spec.resize == "exact" else (f"{crop}.",)),
        "Feed the pixels as uint8, NHWC, RGB. The graph computes (pixel - mean) / std in float32.",
    )


def _resized_side_px(spec: Preprocess) -> int:
    return spec.resize_short_side_px or max(spec.crop_height, spec.crop_width)


def _resample(loaded: LoadedImage, spec: Preprocess) -> Image.Image:
    """Resize and crop in the stored orientation, then turn the small result rather than the large image."""
    size = (spec.crop_width, spec.crop_height)
    turn = _TURNS.get(loaded.orientation)
    if turn is None:
        box = crop_box(loaded.width, loaded.height, spec)
    else:
        seen = (loaded.height, loaded.width) if turn.swaps else (loaded.width, loaded.height)
        box = _stored_box(crop_box(*seen, spec), turn, loaded.width, loaded.height)
        size = size[::-1] if turn.swaps else size
    left, top, right, bottom = (edge / loaded.reduction for edge in box)
    image = opaque(loaded.image)
    small = image.resize(size, _FILTERS[spec.interpolation], box=(left, top, right, bottom))
    return small if turn is None else small.transpose(turn.operation)


def _stored_box(seen: Box, turn: _Turn, width: int, height: int) -> Box:
    """A box of the image as it is seen, in coordinates of the image as it is stored."""
    left, top, right, bottom = (seen[1], seen[0], seen[3], seen[2]) if turn.swaps else seen
    if turn.mirrors_x:
        left, right = width - right, width - left
    if turn.mirrors_y:
        top, bottom = height - bottom, height - top
    return left, top, right, bottom
