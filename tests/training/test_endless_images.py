"""Images whose pixels are few, but whose parts are so many that reading them would take minutes or gigabytes.

Each was decoded once; the seconds and gigabytes are those of a file of 32 MiB, the default limit of an input.
"""

import struct
from collections.abc import Callable

import pytest
from PIL import Image

from tests.training.images import SPEC, encode
from tests.training.test_damaged_images import END_OF_JPEG, FILES, png_chunk
from training.errors import ImageTooLargeError, TruncatedImageError, UnsupportedImageError
from training.image_header import exif_orientation, jpeg_header
from training.preprocess import decode_image

PARTS = 120_000


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(kind: str, segments: bytes) -> bytes:
    """Segments behind the start of a JPEG: an ordinary one, and one that is left to Pillow (CMYK)."""
    return FILES[kind][:2] + segments + FILES[kind][2:]


def with_chunks(chunks: bytes) -> bytes:
    head = 33  # the signature and IHDR
    return FILES["PNG"][:head] + chunks + FILES["PNG"][head:]


def tiff_of_strips(strips: int, order: str = "<", *, large: bool = False) -> bytes:
    """8 x 8 pixels, and a table of strips of one row each."""
    body = bytes(8 * strips)
    kind = 16 if large else 4
    table, one, eight = (kind, strips, 16), (kind, 1, 1), (kind, 1, 8)
    entries = {256: eight, 257: eight, 258: eight, 259: one, 262: one, 277: one}
    entries |= {273: table, 278: one, 279: table}
    head, count, entry, end = ("HHHQ", "Q", "HHQQ", "Q") if large else ("HI", "H", "HHII", "I")
    start = 16 + len(body)
    values = (43, 8, 0, start) if large else (42, start)
    return (
        ({"<": b"II", ">": b"MM"}[order] + struct.pack(order + head, *values)).ljust(16, b"\0")
        + body
        + struct.pack(order + count, len(entries))
        + b"".join(struct.pack(order + entry, tag, *value) for tag, value in sorted(entries.items()))
        + struct.pack(order + end, 0)
    )


def packed_bmp(side: int) -> bytes:
    """Of each row the first pixel and the end of the line: what is left out is filled up one by one."""
    body = b"\1\0\0\0" * side + b"\0\1"
    start = 14 + 40 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + bytes(1024) + body


def progressive(side: int, scans: int) -> bytes:
    data = encode(Image.new("RGB", (side, side), (90, 20, 200)), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * scans + END_OF_JPEG


EXIF_PIECE = segment(0xE1, b"Exif\0\0" + bytes(10))
REFUSED: dict[str, Callable[[], bytes]] = {
    "EXIF in pieces": lambda: with_segments("JPEG", EXIF_PIECE * PARTS),  # 400 s
    "EXIF in pieces, for Pillow": lambda: with_segments("CMYK JPEG", EXIF_PIECE * 100),  # 870 s
    "empty segments": lambda: with_segments("JPEG", segment(0xE0, b"") * PARTS),
    "empty segments, for Pillow": lambda: with_segments("CMYK JPEG", segment(0xE0, b"") * PARTS),  # 12 s
    "bytes between segments": lambda: with_segments("CMYK JPEG", bytes(4 * PARTS)),
    "markers behind the scans": lambda: (
        FILES["progressive JPEG"][:-2] + segment(0xE0, b"") * PARTS + b"\xff\xda" * 600 + END_OF_JPEG
    ),
    "a scan for each few pixels": lambda: progressive(4000, 150),  # 38 s for 64 megapixels
    "strips": lambda: tiff_of_strips(PARTS),  # 40 s and 2.4 GB
    "strips, big-endian": lambda: tiff_of_strips(PARTS, ">"),
    "strips of a BigTIFF": lambda: tiff_of_strips(PARTS, large=True),
    "strips of a big-endian BigTIFF": lambda: tiff_of_strips(PARTS, ">", large=True),
    "PNG chunks": lambda: with_chunks(png_chunk(b"teSt", b"") * PARTS),  # 10 s
    "PNG chunks of pixels": lambda: with_chunks(png_chunk(b"IDAT", b"") * PARTS),
    "GIF extensions": lambda: b"GIF89a" + bytes(7) + b"!\xfe\0" * PARTS + FILES["GIF"][13:],
    "blocks of a GIF extension": lambda: (
        b"GIF89a" + bytes(7) + b"!\xfe" + b"\1a" * PARTS + b"\0" + FILES["GIF"][13:]
    ),
    "bytes between GIF blocks": lambda: (
        FILES["GIF"][:10] + b"\0\0\0" + bytes(4 * PARTS) + b",\0\0\0\0\x01\0\x01\0\0\2\2\x44\1\0;"
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_image_of_too_many_parts_is_refused(kind: str) -> None:
    with pytest.raises(UnsupportedImageError):
        decode_image(REFUSED[kind](), SPEC)


def test_a_packed_bmp_is_unpacked_pixel_by_pixel_so_that_it_may_have_fewer() -> None:
    """6 s for 64 megapixels in 0.3 MB."""
    assert decode_image(packed_bmp(500), SPEC).shape == (224, 224, 3)
    with pytest.raises(ImageTooLargeError, match="3000 x 3000"):
        decode_image(packed_bmp(3000), SPEC)


def test_what_encoders_write_is_still_read() -> None:
    """Colour profiles, XMP and EXIF in several segments; strips of one row; many scans of a small image."""
    profile = segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000)) * 60
    exif = segment(0xE1, b"Exif\0\0II*\0" + bytes(60_000)) + segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 9
    for kind in ("JPEG", "CMYK JPEG", "progressive JPEG"):
        assert decode_image(with_segments(kind, profile + exif), SPEC).shape == (224, 224, 3)
    assert decode_image(tiff_of_strips(8), SPEC).shape == (224, 224, 3)
    assert decode_image(tiff_of_strips(8, ">"), SPEC).shape == (224, 224, 3)
    assert decode_image(progressive(100, 400), SPEC).shape == (224, 224, 3)
    assert decode_image(with_chunks(png_chunk(b"teSt", bytes(8)) * 5000), SPEC).shape == (224, 224, 3)


def test_exif_in_pieces_is_put_together() -> None:
    """The orientation is where the second piece says; the first only has its place."""
    first, second = b"II*\0\x08\0\0\0", struct.pack("<HHHIHH", 1, 0x0112, 3, 1, 6, 0) + bytes(4)
    pieces = segment(0xE1, b"Exif\0\0" + first) + segment(0xE1, b"Exif\0\0" + second)
    header = jpeg_header(with_segments("JPEG", pieces))
    assert header is not None
    assert exif_orientation(header.exif) == 6


@pytest.mark.parametrize("place", [1 << 16, 1 << 62, 1 << 63, (1 << 64) - 1])
def test_a_directory_beyond_the_end_of_a_bigtiff_is_a_damaged_image(place: int) -> None:
    """Found by fuzzing."""
    with pytest.raises(TruncatedImageError):
        decode_image(b"II+\0\x08\0\0\0" + struct.pack("<Q", place) + bytes(100), SPEC)
