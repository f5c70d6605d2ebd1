"""What the first bytes of an image say: its format, and its size where opening it already allocates.

Pillow's WebP reader allocates the whole canvas when it opens a file, and its GIF reader warns about large
frames when it opens one. Their sizes are read here, before Pillow sees the bytes. No file is walked further
than files of cameras and encoders need: one of millions of tiny parts is refused. Decodes nothing.
"""

import re
import struct
from dataclasses import dataclass

from training.errors import TruncatedImageError, UnsupportedImageError

_MAGIC = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("WebP", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("BMP", re.compile(rb"BM")),
    ("TIFF", re.compile(rb"II\x2a\x00|MM\x00\x2a|II\x2b\x00|MM\x00\x2b")),
)
_OTHERS = (
    ("an HEIC or AVIF image", re.compile(rb"....ftyp", re.DOTALL)),
    ("an SVG drawing or another XML or HTML page", re.compile(rb"(\xef\xbb\xbf)?\s*<")),
    ("a PDF document", re.compile(rb"%PDF")),
    ("a zip archive", re.compile(rb"PK\x03\x04")),
)
_GIF_IMAGE, _GIF_EXTENSION = 0x2C, 0x21
_GIF_BLOCK = re.compile(rb"[\x2c\x21]")
_MAX_GIF_BLOCKS = 100_000  # before the first frame, of 255 bytes at most
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # no stuffed zero, no restart marker
_JPEG_SCAN, _JPEG_END, _JPEG_BARE = 0xDA, 0xD9, frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
_JPEG_FRAMES = {0xC0: False, 0xC1: False, 0xC2: True}  # baseline and extended; progressive
_JPEG_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}  # lossless, arithmetic, ...
_JPEG_EXIF = 0xE1
_EXIF_START = b"Exif\x00\x00"
_MAX_JPEG_MARKERS = 100_000
_MAX_EXIF_BLOCKS = 64  # of 64 KiB at most; readers put them together one by one
_TIFF_PIECES = frozenset({273, 324})  # StripOffsets, TileOffsets


@dataclass(frozen=True)
class JpegHeader:
    """What a JPEG says before its first scan. `exif` is empty where there is none."""

    width: int
    height: int
    progressive: bool
    exif: bytes


def image_format(data: bytes) -> str | None:
    """One of JPEG, PNG, WebP, GIF, BMP, TIFF, or None."""
    return next((name for name, magic in _MAGIC if magic.match(data)), None)


def describe_other(data: bytes) -> str:
    """What bytes of no readable format look like, in the user's words."""
    known = next((name for name, magic in _OTHERS if magic.match(data)), None)
    if known:
        return known
    head = data[:256]
    return (
        "text" if head.isascii() and head.decode("ascii").replace("\n", "").isprintable() else "unknown bytes"
    )


def webp_size(data: bytes) -> tuple[int, int]:
    """Canvas (width, height) of a WebP file, from its first chunk (RFC 9649, section 2).

    Raises
    ------
    TruncatedImageError
        The first chunk is none of VP8X, VP8L, VP8, or it ends early.
    """
    chunk, body = data[12:16], data[20:30]
    if len(body) == 10:
        if chunk == b"VP8X":
            return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        if chunk == b"VP8L":
            bits = int.from_bytes(body[1:5], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        if chunk == b"VP8 ":
            width, height = struct.unpack("<HH", body[6:10])
            return width & 0x3FFF, height & 0x3FFF
    raise TruncatedImageError("the WebP image has no readable first chunk")


def gif_size(data: bytes) -> tuple[int, int]:
    """(width, height) that the first frame of a GIF needs: its screen, or the frame where that is larger.

    Raises
    ------
    TruncatedImageError
        The file ends before its first frame.
    UnsupportedImageError
        100,000 blocks come before it.
    """
    try:
        width, height, flags = struct.unpack_from("<HHB", data, 6)
        at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        for _ in range(_MAX_GIF_BLOCKS):
            found = _GIF_BLOCK.search(data, at)
            if found is None:
                raise IndexError
            if data[found.start()] == _GIF_IMAGE:
                frame = struct.unpack_from("<HHHH", data, found.end())
                return max(width, frame[0] + frame[2]), max(height, frame[1] + frame[3])
            at = _end_of_gif_extension(data, found.end() + 1)
    except (IndexError, struct.error) as error:
        raise TruncatedImageError("the GIF ends before its first frame") from error
    raise UnsupportedImageError(f"the GIF has more than {_MAX_GIF_BLOCKS} blocks before its first frame")


def _end_of_gif_extension(data: bytes, at: int) -> int:
    for _ in range(_MAX_GIF_BLOCKS):
        if not data[at]:
            return at + 1
        at += 1 + data[at]
    raise UnsupportedImageError(f"the GIF has an extension of more than {_MAX_GIF_BLOCKS} blocks")


def jpeg_header(data: bytes) -> JpegHeader | None:
    """The header of a JPEG as cameras and encoders write it: grey or three colours, 8 bits, Huffman coded.

    None for every other JPEG, and wherever anything is out of order.
    """
    frame, at = None, 2
    exif: list[bytes] = []
    for _ in range(_MAX_JPEG_MARKERS):
        if data[at : at + 1] != b"\xff" or at + 4 > len(data):
            return None
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        body, at = data[at + 4 : at + 2 + length], at + 2 + length
        if marker == _JPEG_SCAN:
            return None if frame is None else JpegHeader(*frame, b"".join(exif))
        if marker in _JPEG_BARE or marker in _JPEG_OTHER_FRAMES or length < 2:
            return None
        if marker in _JPEG_FRAMES:
            if frame is not None or len(body) < 6 or body[0] != 8 or body[5] not in (1, 3):
                return None
            height, width = struct.unpack(">HH", body[1:5])
            frame = (width, height, _JPEG_FRAMES[marker])
        elif marker == _JPEG_EXIF and body.startswith(_EXIF_START):
            exif.append(body[len(_EXIF_START) :] if exif else body)
    return None


def jpeg_scans(data: bytes) -> tuple[int, int | None]:
    """Walk the markers of a JPEG (ITU-T T.81, annex B).

    Returns
    -------
    tuple
        Number of scans, and the offset of the end-of-image marker (None when there is none).

    Raises
    ------
    UnsupportedImageError
        It has more than 100,000 markers.
    """
    scans, at = 0, 2
    for _ in range(_MAX_JPEG_MARKERS):
        found = _JPEG_MARKER.search(data, at)
        if found is None:
            return scans, None
        marker, at = data[found.start() + 1], found.end()
        if marker == _JPEG_END:
            return scans, found.start()
        scans += marker == _JPEG_SCAN
        if marker not in _JPEG_BARE:
            at += int.from_bytes(data[at : at + 2], "big")
    raise UnsupportedImageError(f"the JPEG image has more than {_MAX_JPEG_MARKERS} markers")


def has_endless_exif(data: bytes) -> bool:
    """Whether a JPEG may have more blocks of EXIF than any camera writes; each costs a copy of all before."""
    return data.count(_EXIF_START) > _MAX_EXIF_BLOCKS


def tiff_pieces(data: bytes) -> int:
    """How many strips or tiles the first directory of a TIFF announces; 0 where it cannot be read."""
    order, large = ("<" if data[:1] == b"I" else ">"), data[2:4] in (b"+\0", b"\0+")
    place, entry = (order + "Q", order + "HHQ8x") if large else (order + "I", order + "HHI4x")
    pieces = 0
    try:
        (at,) = struct.unpack_from(place, data, 8 if large else 4)
        (count,) = struct.unpack_from(order + ("Q" if large else "H"), data, at)
        first, step = at + (8 if large else 2), struct.calcsize(entry)
        for index in range(min(count, 1 << 16)):  # there are no more tags
            tag, _, values = struct.unpack_from(entry, data, first + index * step)
            pieces = max(pieces, values if tag in _TIFF_PIECES else 0)
    except (struct.error, OverflowError):  # a place beyond the file, or beyond any file
        return pieces
    return pieces


def exif_orientation(exif: bytes) -> int:
    """Orientation (1 to 8) of an EXIF block; 1 when it says none or cannot be read, as browsers do.

    Only this tag is read: the rest of the block is somebody's metadata, which is often damaged.
    """
    block = exif.removeprefix(_EXIF_START)
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", block, entry)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
