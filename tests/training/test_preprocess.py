"""Decoding: every format, mode and orientation gives the pixels that were meant."""

import itertools
import random
import resource
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torchvision.transforms import v2 as torchvision

from tests.training.images import SPEC, difference, encode, png, rgb_of, scene
from training import image_file
from training.errors import InputError, UnsupportedImageError
from training.manifest import FILES, Manifest, Preprocess
from training.preprocess import JPEG_MARGIN, crop_box, decode_image, preprocess_steps
from training.runtime import onnxruntime

# As in test_damaged_images: the reader remarks on damaged EXIF, which is silenced outside of pytest.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

SCENE = scene()
GREY = np.asarray(SCENE.convert("L")).astype(np.float64)  # (240, 320)
RAMP = np.linspace(0, 1, GREY.size).reshape(GREY.shape)
MIB = 1 << 20


def alpha_scene(mode: str) -> Image.Image:
    """The scene, more transparent towards the bottom."""
    image = SCENE.convert(mode)
    image.putalpha(Image.fromarray(np.rint(255 * (1 - RAMP)).astype(np.uint8)))
    return image


def on_white(image: Image.Image) -> Image.Image:
    """Composited by arithmetic rather than by Pillow."""
    levels = np.asarray(image.convert("RGBA")).astype(np.float64)
    alpha = levels[:, :, 3:] / 255
    return rgb_of(levels[:, :, :3] * alpha + 255 * (1 - alpha))


def palette_with_hole() -> Image.Image:
    """A palette image in which one colour is transparent."""
    image = SCENE.quantize(16)
    image.info["transparency"] = 3
    return image


def palette_with_alpha() -> Image.Image:
    """A palette image in which every colour has its own alpha, as PNG's tRNS chunk allows."""
    image = SCENE.quantize(16)
    image.info["transparency"] = bytes(range(0, 256, 16))
    return image


def hole_on_white() -> Image.Image:
    image = SCENE.quantize(16)
    rgb = np.asarray(image.convert("RGB")).copy()
    rgb[np.asarray(image) == 3] = 255
    return Image.fromarray(rgb)


def alpha_palette_on_white() -> Image.Image:
    image = SCENE.quantize(16)
    alpha = (np.asarray(image) * 16)[:, :, np.newaxis] / 255
    return rgb_of(np.asarray(image.convert("RGB")) * alpha + 255 * (1 - alpha))


Case = tuple[str, Callable[[], Image.Image], Callable[[], Image.Image]]
LOSSLESS: dict[str, Case] = {
    **{f"{kind} RGB": (kind, lambda: SCENE, lambda: SCENE) for kind in ("PNG", "BMP", "TIFF")},
    **{
        f"{kind} L": (kind, lambda: SCENE.convert("L"), lambda: rgb_of(GREY))
        for kind in ("PNG", "BMP", "TIFF", "GIF")
    },
    **{
        f"{kind} P": (kind, lambda: SCENE.quantize(64), lambda: SCENE.quantize(64).convert("RGB"))
        for kind in ("PNG", "BMP", "TIFF", "GIF")
    },
    **{
        f"{kind} 1": (kind, lambda: SCENE.convert("1"), lambda: SCENE.convert("1").convert("RGB"))
        for kind in ("PNG", "BMP", "TIFF", "GIF")
    },
    **{
        f"{kind} RGBA": (kind, lambda: alpha_scene("RGB"), lambda: on_white(alpha_scene("RGB")))
        for kind in ("PNG", "TIFF", "WebP")
    },
    **{
        f"{kind} LA": (kind, lambda: alpha_scene("L"), lambda: on_white(alpha_scene("L")))
        for kind in ("PNG", "TIFF")
    },
    **{f"{kind} P with a hole": (kind, palette_with_hole, hole_on_white) for kind in ("PNG", "GIF")},
    "PNG P with alpha": ("PNG", palette_with_alpha, alpha_palette_on_white),
    "TIFF CMYK": ("TIFF", lambda: SCENE.convert("CMYK"), lambda: SCENE),
    **{
        f"{kind} 16 bits": (
            kind,
            lambda: Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16)),
            lambda: rgb_of(RAMP * 255),
        )
        for kind in ("PNG", "TIFF")
    },
    "TIFF float up to 1": (
        "TIFF",
        lambda: Image.fromarray(RAMP.astype(np.float32)),
        lambda: rgb_of(RAMP * 255),
    ),
    "TIFF float up to 255": (
        "TIFF",
        lambda: Image.fromarray((RAMP * 200).astype(np.float32)),
        lambda: rgb_of(RAMP * 200),
    ),
    "TIFF float below 0": (
        "TIFF",
        lambda: Image.fromarray((RAMP * 4 - 3).astype(np.float32)),
        lambda: rgb_of(RAMP * 255),
    ),
    "TIFF 32-bit integers": (
        "TIFF",
        lambda: Image.fromarray(np.rint(RAMP * 60000).astype(np.int32)),
        lambda: rgb_of(RAMP * 60000 / 257),
    ),
    "TIFF 32-bit integers beyond 16 bits": (
        "TIFF",
        lambda: Image.fromarray(np.rint(1e6 + RAMP * 1e6).astype(np.int32)),
        lambda: rgb_of(RAMP * 255),
    ),
}
LOSSLESS_WEBP = {"lossless": True, "exact": True}


@pytest.mark.parametrize("case", LOSSLESS)
def test_every_format_and_mode_gives_the_pixels_that_were_meant(case: str) -> None:
    kind, make, expected = LOSSLESS[case]
    found = decode_image(encode(make(), kind, **(LOSSLESS_WEBP if kind == "WebP" else {})), SPEC)
    assert difference(found, decode_image(png(expected()), SPEC)).max() <= 2


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_of_every_colour_model(mode: str, progressive: bool) -> None:
    image = SCENE.convert(mode)
    found = decode_image(encode(image, "JPEG", quality=95, progressive=progressive), SPEC)
    expected = rgb_of(GREY) if mode == "L" else SCENE
    assert difference(found, decode_image(png(expected), SPEC)).mean() < 2


@pytest.mark.parametrize("kind", ["GIF", "WebP", "TIFF", "PNG", "MPO"])
def test_the_first_frame_of_several(kind: str) -> None:
    frames = [SCENE, SCENE.transpose(Image.Transpose.ROTATE_180)]
    options = LOSSLESS_WEBP if kind == "WebP" else {}
    data = encode(frames[0], kind, append_images=frames[1:], save_all=True, **options)
    assert difference(decode_image(data, SPEC), decode_image(png(frames[0]), SPEC)).mean() < 6


def test_pixels_that_are_not_numbers_are_refused() -> None:
    levels = RAMP.astype(np.float32)
    levels[3, 4] = np.nan
    with pytest.raises(UnsupportedImageError, match="not finite"):
        decode_image(encode(Image.fromarray(levels), "TIFF"), SPEC)


def test_a_constant_image_of_any_depth_decodes() -> None:
    for kind in (np.float32, np.int32, np.uint16):
        decoded = decode_image(encode(Image.fromarray(np.full((40, 30), 300, kind)), "TIFF"), SPEC)
        assert decoded.min() == decoded.max()


# The stored image of each orientation is the scene turned by the inverse of what the orientation asks for.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WebP"])
@pytest.mark.parametrize("size", [(301, 200), (200, 333)])
def test_every_orientation_is_undone(kind: str, orientation: int, size: tuple[int, int]) -> None:
    upright = scene(*size)
    operation = STORED[orientation]
    stored = upright if operation is None else upright.transpose(operation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.info["exif"] = exif.tobytes()
    assert ImageOps.exif_transpose(stored).tobytes() == upright.tobytes()  # an outside oracle for the table
    options = {"JPEG": {"quality": 98, "subsampling": 0}, "WebP": LOSSLESS_WEBP}.get(kind, {})
    found = decode_image(encode(stored, kind, exif=exif, **options), SPEC)
    assert difference(found, decode_image(png(upright), SPEC)).mean() < 1


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("size", [(1000, 651), (651, 1000)])
def test_no_orientation_moves_the_crop_by_a_pixel(orientation: int, size: tuple[int, int]) -> None:
    """393 - 224 is odd: the crop lies half a pixel off the centre, on one side of the image as it is seen."""
    upright = Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8))
    operation = STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if operation is None else upright.transpose(operation)
    distance = difference(
        decode_image(encode(stored, "PNG", exif=exif), SPEC), decode_image(png(upright), SPEC)
    )
    assert distance.mean() < 0.5  # a pixel further, it is 27


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_damaged_exif_does_not_cost_the_image(exif: bytes) -> None:
    found = decode_image(encode(SCENE, "JPEG", exif=exif), SPEC)
    assert np.array_equal(found, decode_image(encode(SCENE, "JPEG"), SPEC))


@pytest.mark.parametrize(
    "size", [(320, 240), (240, 320), (500, 375), (333, 500), (256, 256), (90, 61), (1000, 300), (7, 9)]
)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_geometry_is_torchvisions(size: tuple[int, int], interpolation: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))
    reference = torchvision.Compose(
        [
            torchvision.Resize(256, torchvision.InterpolationMode(interpolation)),
            torchvision.CenterCrop(224),
        ]
    )
    found = decode_image(png(image), replace(SPEC, interpolation=interpolation))
    distance = difference(found, np.asarray(reference(image)))
    # Where the passes run in the same order, only the last bit may differ.
    assert distance.mean() < 0.4
    assert distance.max() <= (1 if size[0] >= size[1] else 20)


def test_exact_resizes_the_whole_image() -> None:
    spec = Preprocess("exact", None, 50, 80, "bilinear", SPEC.mean, SPEC.std)
    assert crop_box(320, 240, spec) == (0, 0, 320, 240)
    expected = np.asarray(SCENE.resize((80, 50), Image.Resampling.BILINEAR))
    assert np.array_equal(decode_image(png(SCENE), spec), expected)


def test_a_strip_is_not_blown_up() -> None:
    """Resized as a whole, it would have 256 x 15 million pixels: 11 GiB."""
    strip = Image.fromarray(
        np.repeat(np.arange(60000)[:, np.newaxis, np.newaxis] % 251, 3, axis=2).astype(np.uint8)
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for image in (strip, strip.transpose(Image.Transpose.ROTATE_90)):
        levels = decode_image(png(image), SPEC)
        assert np.all(difference(levels, np.full_like(levels, 30000 % 251)) <= 2)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 200 * MIB


def test_the_result_can_be_written_to_and_the_input_is_kept() -> None:
    data = png(SCENE)
    copy = bytes(bytearray(data))
    pixels = decode_image(data, SPEC)
    pixels[0, 0] = 0
    assert (pixels.shape, pixels.dtype, pixels.flags.c_contiguous, data == copy) == (
        (224, 224, 3),
        np.uint8,
        True,
        True,
    )


def test_many_threads_decode_as_one_does() -> None:
    kinds = ("JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP")
    inputs = [encode(scene(200 + 7 * i, 150), kind) for i, kind in enumerate(kinds * 6)]
    alone = [decode_image(data, SPEC) for data in inputs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: decode_image(data, SPEC), inputs))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_the_steps_name_every_number_that_matters() -> None:
    text = " ".join(preprocess_steps(SPEC))
    for part in ("256", "224", "bicubic", "white", "EXIF", "NHWC", f"{JPEG_MARGIN} * n * 256"):
        assert part in text


def by_pillow(data: bytes) -> NDArray[np.uint8] | str:
    """What comes of an input without the short way for ordinary JPEGs: pixels, or the code of an error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_file, "_load_ordinary_jpeg", lambda *_: None)
        return pixels_or_code(data)


def pixels_or_code(data: bytes) -> NDArray[np.uint8] | str:
    try:
        return decode_image(data, SPEC)
    except InputError as error:
        return error.code


@pytest.mark.parametrize("size", [(500, 375), (61, 90), (1100, 1300)])
@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": 0},
        {"subsampling": 2, "quality": 60},
        {"progressive": True},
        {"restart_marker_blocks": 3},
        {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_ordinary_jpeg_is_decoded_as_pillow_decodes_it(
    size: tuple[int, int], options: dict[str, object], mode: str
) -> None:
    noise = np.random.default_rng(2).normal(0, 12, (size[1], size[0], 3))
    levels = np.rint((np.asarray(scene(*size)) + noise).clip(0, 255)).astype(np.uint8)
    data = encode(Image.fromarray(levels).convert(mode), "JPEG", **options)
    assert image_file._load_ordinary_jpeg(data, image_file.DecodeLimits(), JPEG_MARGIN * 256) is not None
    expected = by_pillow(data)
    assert not isinstance(expected, str)
    assert difference(decode_image(data, SPEC), expected).mean() < 0.4  # rounding


def test_pillow_has_the_last_word_on_a_damaged_jpeg() -> None:
    """The short way takes nothing that Pillow refuses, and nothing it takes is refused."""
    rng = random.Random(3)
    bases = [encode(scene(96, 72), "JPEG", **options) for options in ({}, {"progressive": True})]
    outcomes = Counter[str]()
    for _ in range(250):
        data = bytearray(rng.choice(bases))
        reach = rng.choice([20, 200, len(data)])
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(reach)] = rng.choice([0, 0xD9, 0xDA, 0xFF, rng.randrange(256)])
        del data[rng.choice([len(data), len(data), rng.randrange(len(data))]) :]
        found, expected = pixels_or_code(bytes(data)), by_pillow(bytes(data))
        if isinstance(found, str) or isinstance(expected, str):
            assert found == expected
        else:
            assert difference(found, expected).mean() < 0.4
        outcomes[found if isinstance(found, str) else "pixels"] += 1
    assert min(outcomes["pixels"], outcomes["truncated_image"]) > 20


def large_photographs(data_root: Path) -> list[bytes]:
    """JPEGs of 1600 to 3200 pixels with detail at every scale: mosaics of photographs, and one enlarged."""
    paths = sorted((data_root / "cats_dogs").glob("*/*"))
    tiles = [Image.open(path).convert("RGB").resize((400, 400)) for path in paths[:: len(paths) // 64][:64]]
    images = []
    for side in (4, 5, 6, 8):
        canvas = Image.new("RGB", (400 * side, 400 * side))
        for tile, (row, column) in zip(tiles, itertools.product(range(side), repeat=2), strict=False):
            canvas.paste(tile, (400 * column, 400 * row))
        images.append(canvas)
    images.append(tiles[0].resize((2100, 1700), Image.Resampling.LANCZOS))
    return [encode(image, "JPEG", quality=92) for image in images]


def embed(folder: Path, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(folder / FILES.model, providers=["CPUExecutionProvider"])
    embeddings: NDArray[np.float32] = session.run(None, {Manifest.load(folder).input.name: np.stack(images)})[
        0
    ]
    return embeddings


def test_reduced_jpeg_decoding_stays_within_its_bound(
    data_root: Path, lite0_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = large_photographs(data_root)
    reductions = [
        image_file.load_image(data, image_file.DecodeLimits(), JPEG_MARGIN * 256).reduction for data in inputs
    ]
    assert set(reductions) == {2, 4}
    reduced = [decode_image(data, SPEC) for data in inputs]
    monkeypatch.setattr("training.preprocess.JPEG_MARGIN", 10**6)
    whole = [decode_image(data, SPEC) for data in inputs]
    assert max(difference(a, b).mean() for a, b in zip(reduced, whole, strict=True)) < 0.6
    found, expected = embed(lite0_folder, reduced), embed(lite0_folder, whole)
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.998
