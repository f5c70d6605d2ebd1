"""Bytes of an image -> the pixels an extractor takes; the same code for training and serving.

Knows the geometry (orientation, resize, crop) that a manifest asks for. The arithmetic on pixel values
(mean, std) is inside the extractor's graph. Knows no network and no request.
"""

import numpy as np
from numpy.typing import NDArray

from training.image_file import DecodeLimits, LoadedImage, load_image
from training.manifest import Preprocess
from training.resample import TURNS, Box, resample

__all__ = ["DEFAULT_LIMITS", "DecodeLimits", "crop_box", "decode_image", "preprocess_steps"]

DEFAULT_LIMITS = DecodeLimits()

# A JPEG is decoded smaller only while its short side stays this many times the side it is resized to. With 2,
# a large photograph changes by 0.6 levels on average at most, and EfficientNet-Lite0's embedding keeps a
# cosine of 0.998 at least (a test holds both bounds); with 1 it changes by 2 levels and keeps 0.991.
JPEG_MARGIN = 2


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
    return _resample(loaded, spec)


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


def _resample(loaded: LoadedImage, spec: Preprocess) -> NDArray[np.uint8]:
    """Resize and crop in the stored orientation, then turn the small result rather than the large image."""
    width, height, turn = loaded.width, loaded.height, TURNS[loaded.orientation]
    seen = crop_box(*((height, width) if turn.swaps else (width, height)), spec)
    left, top, right, bottom = (e / loaded.reduction for e in turn.stored_box(seen, width, height))
    size = (spec.crop_height, spec.crop_width) if turn.swaps else (spec.crop_width, spec.crop_height)
    small = resample(loaded.image, *size, (left, top, right, bottom), spec.interpolation)
    return np.array(turn(small), order="C")
