"""Bytes of an image file -> pixels, or an InputError: the only caller of Pillow's readers and of simplejpeg.

An ordinary JPEG is decoded by simplejpeg, which calls libjpeg-turbo once for the whole image. Whatever it
has the least doubt about, and every other format, is Pillow's, whose verdict holds.
Knows formats, limits and damage. Knows nothing of what the pixels are for.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from training import image_header
from training.errors import (
    EmptyInputError,
    ImageTooLargeError,
    InputError,
    TruncatedImageError,
    UnsupportedImageError,
)

READABLE = "JPEG, PNG, WebP, GIF, BMP or TIFF"

# Readers are called by class, not through Image.open: it would try every plugin, and its check for
# decompression bombs warns (or raises) by a setting of the whole process. The limit here is per call.
_READERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}
_SIZES = {"WebP": image_header.webp_size, "GIF": image_header.gif_size}

# A progressive JPEG of many tiny scans costs a pass over all pixels for each; encoders write about ten.
_MAX_JPEG_SCANS, _ORDINARY_JPEG_SCANS = 500, 16
_MAX_SCANNED_PIXELS = 1 << 31  # pixels times scans: a few seconds
# Read one by one, in Python: each part of a header, and each run of a packed BMP.
_MAX_HEADER_READS = 200_000
_MAX_TIFF_PIECES = 1 << 16
_MAX_RUN_LENGTH_PIXELS = 1 << 22
_RUN_LENGTH_CODECS = frozenset({"bmp_rle"})
_JPEG_SCAN = b"\xff\xda"
_JPEG_REDUCTIONS = (8, 4, 2)
_TIFF_TILE_TAGS = (322, 323)  # TileWidth, TileLength
# libjpeg paints what it has no data for in exactly this level; the tolerance is for its smoothing of edges.
_JPEG_MISSING_LEVEL, _JPEG_MISSING_TOLERANCE = 128, 4
# Any bytes but 0xff, which would be a marker. Long enough to change at least one block of missing data.
_JPEG_FILLER = bytes((i * 167 + 41) % 251 for i in range(512))

# Readers of TIFF and PNG remark on odd metadata, which is no business of a server's log. Such remarks cannot
# be silenced for one call: warnings.catch_warnings is not thread-safe.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.(Tiff|Png)ImagePlugin")


@dataclass(frozen=True)
class DecodeLimits:
    """What one image may cost. `max_pixels` is compared with the header, before anything is decoded."""

    max_pixels: int = 64_000_000


@dataclass(frozen=True)
class LoadedImage:
    """Pixels as they are stored, with what is needed to see them as they were meant.

    `image` is a Pillow image of any mode, or RGB pixels, uint8 (rows, columns, 3). It may be smaller than
    `width` x `height` (the size in the header) by the factor `reduction`.
    `orientation` is EXIF's, 1 to 8, and not yet applied.
    """

    image: Image.Image | NDArray[np.uint8]
    width: int
    height: int
    reduction: int
    orientation: int


def load_image(data: bytes, limits: DecodeLimits, least_side_px: int | None) -> LoadedImage:
    """Decode the first frame of an image file.

    A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size (by its own transform, much faster), as long as no
    side falls below `least_side_px`; None decodes all of it.

    Raises
    ------
    EmptyInputError, UnsupportedImageError, TruncatedImageError, ImageTooLargeError
        For every input that gives no image, whatever its bytes are.
    """
    if not data:
        raise EmptyInputError("the input is empty")
    kind = image_header.image_format(data)
    if kind is None:
        raise UnsupportedImageError(f"not an image but {image_header.describe_other(data)}. Send {READABLE}")
    if kind in _SIZES:
        _check_size(_SIZES[kind](data), limits)
    if kind == "JPEG" and (ordinary := _load_ordinary_jpeg(data, limits, least_side_px)):
        return ordinary
    image = _open(kind, data, limits)
    width, height = image.size
    reduction = _reduce(image, least_side_px) if kind == "JPEG" else 1
    with _reading(kind):
        image.load()
    if kind == "JPEG" and _may_lack_data(image):
        _check_jpeg_end(image, data, least_side_px)
    if kind == "TIFF":  # its reader has turned the image already, see load_end in Pillow
        return LoadedImage(image, *image.size, reduction, orientation=1)
    orientation = image_header.exif_orientation(image.info.get("exif", b""))
    return LoadedImage(image, width, height, reduction, orientation)


class _HeaderFile(io.BytesIO):
    """An image file that is given up when its header consists of too many parts."""

    reads_left: float = _MAX_HEADER_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise UnsupportedImageError("the image has a header of too many parts")
        return super().read(size)


def _open(kind: str, data: bytes, limits: DecodeLimits) -> ImageFile.ImageFile:
    """Read the header, compare what it announces with the limits, and only then check the rest."""
    if kind == "JPEG" and image_header.has_endless_exif(data):
        raise UnsupportedImageError("the JPEG image has too many blocks of EXIF")
    if kind == "TIFF" and image_header.tiff_pieces(data) > _MAX_TIFF_PIECES:
        raise UnsupportedImageError(f"the TIFF image has more than {_MAX_TIFF_PIECES} strips or tiles")
    file = _HeaderFile(data)
    with _reading(kind):
        image = _READERS[kind](file)
    _check_size(image.size, limits)
    with _reading(kind):
        if isinstance(image, PngImageFile):
            PngImageFile(_HeaderFile(data)).verify()  # checksums, which load() ignores
        if isinstance(image, TiffImageFile):
            _check_size([int(image.tag_v2.get(tag, 1)) for tag in _TIFF_TILE_TAGS], limits)
        if "progressive" in image.info:
            _check_scans(data, *image.size)
        if any(tile.codec_name in _RUN_LENGTH_CODECS for tile in image.tile):
            _check_size(image.size, DecodeLimits(min(limits.max_pixels, _MAX_RUN_LENGTH_PIXELS)))
    file.reads_left = float("inf")  # from here on, the pixels bound the work
    return image


def _load_ordinary_jpeg(data: bytes, limits: DecodeLimits, least_side_px: int | None) -> LoadedImage | None:
    """Decode a JPEG in which nothing is unusual and nothing is missing; None leaves it to Pillow.

    `strict` makes an error of whatever libjpeg would only warn about, such as data that ends early.
    """
    header = image_header.jpeg_header(data)
    if header is None:
        return None
    _check_size((header.width, header.height), limits)
    if header.progressive:
        _check_scans(data, header.width, header.height)
    factor = _reduction(header.width, header.height, least_side_px)
    columns, rows = -(-header.width // factor), -(-header.height // factor)
    try:
        # libjpeg's own reading of the size decides what is allocated.
        if simplejpeg.decode_jpeg_header(data)[:2] != (header.height, header.width):
            return None
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=rows, min_width=columns, strict=True)
    except (ValueError, MemoryError):
        return None
    if pixels.shape != (rows, columns, 3):
        return None
    orientation = image_header.exif_orientation(header.exif)
    return LoadedImage(pixels, header.width, header.height, factor, orientation)


def _check_scans(data: bytes, width: int, height: int) -> None:
    affordable = _MAX_SCANNED_PIXELS // max(1, width * height)
    most = min(_MAX_JPEG_SCANS, max(_ORDINARY_JPEG_SCANS, affordable))
    # No scan begins without these two bytes, which are quick to count.
    if data.count(_JPEG_SCAN) > most and image_header.jpeg_scans(data)[0] > most:
        raise UnsupportedImageError(f"the JPEG image has more than {most} scans")


@contextmanager
def _reading(kind: str) -> Iterator[None]:
    """The boundary around Pillow's readers: whatever bytes make them raise is an InputError outside.

    Damaged files make them raise nearly anything (SyntaxError, struct.error, OverflowError, zlib.error,
    AttributeError, ...), differently in every release, so no list of classes would hold. Only calls of a
    reader stand inside, no code of this project.
    """
    try:
        yield
    except InputError:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        raise ImageTooLargeError(f"the {kind} image needs too much memory: {error}") from error
    except Exception as error:
        raise TruncatedImageError(f"the {kind} image is truncated or damaged: {error}") from error


def _check_size(size: Sequence[int], limits: DecodeLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(
            f"the image has {width} x {height} pixels, more than the {limits.max_pixels} allowed"
        )


def _reduction(width: int, height: int, least_side_px: int | None) -> int:
    """The factor by which libjpeg may reduce an image as it decodes it: what Pillow's `draft` chooses."""
    if least_side_px is None:
        return 1
    most = min(width, height) // least_side_px
    return next((factor for factor in _JPEG_REDUCTIONS if factor <= most), 1)


def _reduce(image: ImageFile.ImageFile, least_side_px: int | None) -> int:
    """Ask libjpeg for a smaller image where that leaves enough; returns the factor, 1, 2, 4 or 8."""
    if least_side_px is None:
        return 1
    width = image.size[0]
    drafted = image.draft(None, (least_side_px, least_side_px))
    return 1 if drafted is None else round(width / drafted[1][2])


def _may_lack_data(image: Image.Image) -> bool:
    """Whether the last pixel of a JPEG looks like one for which there was no data."""
    last = image.getpixel((image.width - 1, image.height - 1))
    levels = last if isinstance(last, tuple) else (last,)
    return all(
        abs(level - _JPEG_MISSING_LEVEL) <= _JPEG_MISSING_TOLERANCE for level in levels if level is not None
    )


def _check_jpeg_end(image: Image.Image, data: bytes, least_side_px: int | None) -> None:
    """Tell a JPEG that is grey in its last corner from one that was cut and closed again.

    libjpeg paints missing data grey and says nothing that Pillow passes on. Bytes added before the end
    marker change nothing in a complete image, and something in an incomplete one.
    A progressive JPEG cut after its first scan is complete, but blurred; that is not told.
    """
    end = image_header.jpeg_scans(data)[1]
    with _reading("JPEG"):
        if end is None:
            raise OSError("it has no end")
        longer = JpegImageFile(io.BytesIO(data[:end] + _JPEG_FILLER + data[end:]))
        _reduce(longer, least_side_px)
        if longer.tobytes() != image.tobytes():
            raise OSError("its last part is missing")
