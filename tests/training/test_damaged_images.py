"""Whatever the bytes are: pixels or an InputError, without memory for what the header only claims."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.training.images import SPEC, difference, encode, png, scene
from training.errors import (
    EmptyInputError,
    ImageTooLargeError,
    InputError,
    TruncatedImageError,
    UnsupportedImageError,
)
from training.preprocess import DecodeLimits, decode_image

SCENE = scene(96, 72)
FILES = {
    "JPEG": encode(SCENE, "JPEG"),
    "progressive JPEG": encode(SCENE, "JPEG", progressive=True),
    "grey JPEG": encode(SCENE.convert("L"), "JPEG"),
    "CMYK JPEG": encode(SCENE.convert("CMYK"), "JPEG"),
    "PNG": png(SCENE),
    "palette PNG": png(SCENE.quantize(16)),
    "16-bit PNG": png(Image.fromarray(np.arange(96 * 72, dtype=np.uint16).reshape(72, 96) * 9)),
    "WebP": encode(SCENE, "WebP"),
    "lossless WebP": encode(SCENE.convert("RGBA"), "WebP", lossless=True),
    "GIF": encode(SCENE.quantize(64), "GIF"),
    "BMP": encode(SCENE, "BMP"),
    "TIFF": encode(SCENE, "TIFF"),
    "LZW TIFF": encode(SCENE, "TIFF", compression="tiff_lzw"),
    "JPEG TIFF": encode(SCENE, "TIFF", compression="jpeg"),
    "float TIFF": encode(
        Image.fromarray(np.linspace(-1, 2, 96 * 72, dtype=np.float32).reshape(72, 96)), "TIFF"
    ),
}
BASELINE_JPEGS = ("JPEG", "grey JPEG", "CMYK JPEG")
SMALL = DecodeLimits(max_pixels=1_000_000)
END_OF_JPEG = b"\xff\xd9"

# Odd metadata is no reason to refuse an image. The modules of Pillow say so by a warning, which the decoder
# silences where it is imported; pytest's own filters, set later, would make it an error here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    )


def jpeg_claiming(width: int, height: int) -> bytes:
    data = bytearray(FILES["JPEG"])
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def gif_claiming(width: int, height: int, *, screen: bool) -> bytes:
    size = struct.pack("<HH", width, height)
    return (
        b"GIF89a" + (size if screen else struct.pack("<HH", 1, 1)) + b"\0\0\0"
        b"!\xf9\x04\0\0\0\0\0,\0\0\0\0" + (struct.pack("<HH", 1, 1) if screen else size) + b"\0\2\2\x44\1\0;"
    )


def webp_claiming(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + canvas
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def bmp_claiming(width: int, height: int) -> bytes:
    data = bytearray(FILES["BMP"])
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def tiff_claiming(width: int, height: int, *, tile: tuple[int, int] | None = None) -> bytes:
    body = zlib.compress(bytes(1000))
    layout = (
        {322: tile[0], 323: tile[1], 324: 8, 325: len(body)}
        if tile
        else {273: 8, 278: height, 279: len(body)}
    )
    entries = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, **layout}
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items())
    )
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + bytes(4)


CLAIMS = {
    "PNG": png_claiming(30_000, 30_000),
    "largest PNG": png_claiming(2**31 - 1, 2**31 - 1),
    "JPEG": jpeg_claiming(65_500, 65_500),
    "GIF screen": gif_claiming(65_535, 65_535, screen=True),
    "GIF frame": gif_claiming(65_535, 65_535, screen=False),
    "GIF that Pillow only warns about": gif_claiming(10_000, 10_000, screen=False),
    "WebP": webp_claiming(16_000, 16_000),
    "BMP": bmp_claiming(30_000, 30_000),
    "TIFF": tiff_claiming(30_000, 30_000),
    "TIFF tile": tiff_claiming(1, 1, tile=(60_000, 60_000)),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_too_many_pixels_are_refused_before_decoding(name: str) -> None:
    """Their data is a few bytes long: a decoder that started would call it truncated."""
    with pytest.raises(ImageTooLargeError):
        decode_image(CLAIMS[name], SPEC)


def test_the_limit_itself_is_allowed() -> None:
    pixels = SCENE.width * SCENE.height
    for data in FILES.values():
        assert decode_image(data, SPEC, DecodeLimits(max_pixels=pixels)).shape == (224, 224, 3)
        with pytest.raises(ImageTooLargeError, match="96 x 72"):
            decode_image(data, SPEC, DecodeLimits(max_pixels=pixels - 1))


def test_pillows_own_limit_neither_warns_nor_is_switched_off() -> None:
    """Between its limit and twice that, Image.open warns; warnings are errors in these tests."""
    assert Image.MAX_IMAGE_PIXELS is not None
    with pytest.raises(TruncatedImageError, match="truncated"):
        decode_image(png_claiming(10_000, 10_000), SPEC, DecodeLimits(max_pixels=200_000_000))
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(png_claiming(10_000, 10_000)))


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    """Each scan costs a pass over all pixels and few bytes."""
    data = FILES["progressive JPEG"]
    at = data.rindex(b"\xff\xda")
    scan = data[at:-2]
    with pytest.raises(UnsupportedImageError, match="500 scans"):
        decode_image(data[:at] + scan * 600 + END_OF_JPEG, SPEC)
    assert decode_image(data, SPEC).shape == (224, 224, 3)


NOT_IMAGES = {
    "text": (b"this is a cat\n", "text"),
    "SVG": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
    "zip": (b"PK\x03\x04\x14\0", "zip"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
    "a format that Pillow reads": (encode(SCENE, "PPM"), "JPEG, PNG, WebP"),
    "an icon": (encode(SCENE, "ICO"), "unknown"),
    "noise": (bytes(range(200, 256)), "unknown"),
    "one byte": (b"\xff", "unknown"),
}


@pytest.mark.parametrize("name", NOT_IMAGES)
def test_what_is_no_image_is_named(name: str) -> None:
    data, expected = NOT_IMAGES[name]
    with pytest.raises(UnsupportedImageError, match=expected):
        decode_image(data, SPEC)


def test_no_bytes() -> None:
    with pytest.raises(EmptyInputError):
        decode_image(b"", SPEC)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_refused_or_complete(name: str) -> None:
    """Only what follows the last pixel may be missing."""
    data = FILES[name]
    whole = decode_image(data, SPEC)
    refused = 0
    for length in range(0, len(data), max(1, len(data) // 120)):
        try:
            found = decode_image(data[:length], SPEC)
        except InputError:
            refused += 1
        else:
            assert difference(found, whole).max() <= 2, length
    assert refused > 100


@pytest.mark.parametrize("name", BASELINE_JPEGS)
def test_a_jpeg_that_was_cut_and_closed_is_never_half_grey(name: str) -> None:
    data = FILES[name]
    whole = decode_image(data, SPEC)
    start = data.index(b"\xff\xda") + 20
    refused = 0
    for length in range(start, len(data) - 2, 5):
        try:
            found = decode_image(data[:length] + END_OF_JPEG, SPEC)
        except TruncatedImageError:
            refused += 1
        else:
            # Cut inside the code of the last block: its finest detail is wrong.
            assert difference(found, whole).mean() < 0.1, length
    assert refused > 20


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
def test_a_grey_jpeg_is_not_taken_for_a_cut_one(mode: str, options: dict[str, object]) -> None:
    for size in ((64, 64), (50, 37), (1500, 1100)):
        data = encode(Image.new("RGB", size, (128, 128, 128)).convert(mode), "JPEG", **options)
        assert difference(decode_image(data, SPEC), np.full((224, 224, 3), 128, np.uint8)).max() <= 1


def test_a_palette_that_is_missing_is_no_palette() -> None:
    """Found by fuzzing."""
    data = FILES["palette PNG"]
    at = data.index(b"PLTE") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    with pytest.raises(UnsupportedImageError, match="palette"):
        decode_image(data[:at] + data[at + 12 + length :], SPEC)


def test_png_checksums_are_checked() -> None:
    """Pillow alone returns other pixels for one flipped bit in ten."""
    start = FILES["PNG"].index(b"IDAT") + 4
    for at in range(start, len(FILES["PNG"]) - 16, 7):
        data = bytearray(FILES["PNG"])
        data[at] ^= 4
        with pytest.raises(TruncatedImageError):
            decode_image(bytes(data), SPEC)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(FILES)), st.binary(max_size=200))
def test_no_tail_after_a_real_start_raises_anything_else(name: str, tail: bytes) -> None:
    decode_or_refuse(FILES[name][:16] + tail)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    st.sampled_from([64, 400, 10**9]),
)
def test_no_damaged_file_raises_anything_else(
    name: str, bytes_changed: list[tuple[float, int]], reach: int
) -> None:
    data = bytearray(FILES[name])
    for place, value in bytes_changed:
        data[int(place * (min(reach, len(data)) - 1))] = value
    decode_or_refuse(bytes(data))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(FILES)), st.floats(0, 1), st.integers(0, 60), st.binary(max_size=60))
def test_no_replaced_stretch_raises_anything_else(
    name: str, place: float, removed: int, added: bytes
) -> None:
    data = FILES[name]
    at = int(place * len(data))
    decode_or_refuse(data[:at] + added + data[at + removed :])


def decode_or_refuse(data: bytes) -> None:
    try:
        found = decode_image(data, SPEC, SMALL)
    except InputError:
        return
    assert (found.shape, found.dtype) == ((224, 224, 3), np.uint8)


def test_odd_metadata_of_a_tiff_does_not_warn(tmp_path: Path) -> None:
    """In a process of its own, where every warning that is not silenced on purpose is an error."""
    data = bytearray(FILES["TIFF"])
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    tags = [struct.unpack_from("<H", data, at + 2 + 12 * i)[0] for i in range(count)]
    entry = at + 2 + 12 * tags.index(278)  # RowsPerStrip, now with two values instead of one
    struct.pack_into("<HHIHH", data, entry, 278, 3, 2, SCENE.height, SCENE.height)
    with pytest.warns(UserWarning, match="too many entries"):
        Image.open(io.BytesIO(data)).load()
    (tmp_path / "odd.tif").write_bytes(data)
    code = (
        "import sys; from pathlib import Path; from tests.training.images import SPEC;"
        "from training.preprocess import decode_image; decode_image(Path(sys.argv[1]).read_bytes(), SPEC)"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code, str(tmp_path / "odd.tif")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
