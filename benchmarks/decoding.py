"""How fast a JPEG becomes the input of the network, and how much its embedding changes by that.

`plain` opens a file with Pillow, converts, turns, resizes all of it and crops: what torchvision's Resize
and CenterCrop do. `ours` is decode_image. The inputs are photographs, and JPEGs of 12 million pixels made
from them at several qualities, with noise so that they are as long as those of a camera. Times are processor
time of one thread, the shortest of several rounds in which all take turns; distances are one minus the
cosine between the embedding and that of the plain way. Other decoders are measured where they are
installed: OpenCV, PyAV, pyvips.

    python -m benchmarks.decoding [--extractor FOLDER] [--data FOLDER] [--rounds N]
"""

import argparse
import importlib
import io
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks.embedded import add_arguments, chosen_extractor
from training.image_embedding import ImageEmbedder
from training.manifest import Preprocess
from training.preprocess import decode_image

Pixels = NDArray[np.uint8]
Decode = Callable[[bytes], Pixels]

PHOTOGRAPHS, LARGE = 100, 2
LARGE_SIZE = (4000, 3000)
NOISE_LEVELS = 3.0
BAR_LARGE, BAR_DISTANCE = 1 / 3, 1e-2
ORIENTATION, ROTATED = 0x0112, 6
# How each set of large JPEGs is written; the first is the photographs as they are.
SETS: dict[str, dict[str, Any]] = {
    "photographs": {},
    "12 MP q80 4:2:0": {"quality": 80, "subsampling": 2},
    "12 MP q92 4:2:0": {"quality": 92, "subsampling": 2},
    "12 MP q92 4:4:4": {"quality": 92, "subsampling": 0},
    "12 MP q95 4:2:2": {"quality": 95, "subsampling": 1},
    "12 MP q92 rotated": {"quality": 92, "subsampling": 2, "rotated": True},
    "12 MP q92 progressive": {"quality": 92, "subsampling": 2, "progressive": True},
}


@dataclass(frozen=True)
class Decoded:
    """One set: milliseconds an image, the ratio ours / plain, and the greatest cosine distance of ours."""

    name: str
    images: int
    kilobytes: float
    plain_ms: float
    ours_ms: float
    ratio: float
    distance: float
    others_ms: dict[str, float]
    others_distance: dict[str, float]


def photographs(data: Path, count: int) -> list[bytes]:
    """Evenly chosen photographs of cats_dogs."""
    paths = sorted((data / "cats_dogs").glob("*/*.jpg"))
    return [path.read_bytes() for path in paths[:: max(1, len(paths) // count)][:count]]


def enlarged(data: bytes, *, rotated: bool = False, **options: Any) -> bytes:
    """A JPEG of 12 million pixels made from a photograph; `options` are those of Pillow's encoder."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    size = LARGE_SIZE if image.width >= image.height else LARGE_SIZE[::-1]
    levels = np.asarray(image.resize(size, Image.Resampling.BICUBIC)).astype(np.float32)
    levels += np.random.default_rng(0).normal(0, NOISE_LEVELS, levels.shape).astype(np.float32)
    large = Image.fromarray(np.rint(levels.clip(0, 255)).astype(np.uint8))
    exif = Image.Exif()
    if rotated:
        exif[ORIENTATION] = ROTATED
        large = large.transpose(Image.Transpose.ROTATE_90)
    stream = io.BytesIO()
    large.save(stream, "JPEG", exif=exif, **options)
    return stream.getvalue()


def plain_decoder(spec: Preprocess) -> Decode:
    """Pillow as it is used everywhere: everything is decoded, converted, resized, and cropped at the end."""
    side = spec.resize_short_side_px
    assert side is not None

    def decode(data: bytes) -> Pixels:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        return np.array(_cropped(image.resize(_resized(*image.size, side), Image.Resampling.BICUBIC), spec))

    return decode


def other_decoders(spec: Preprocess) -> dict[str, Decode]:
    """Decoders of other libraries, of those that are installed."""
    side = spec.resize_short_side_px
    assert side is not None
    found: dict[str, Decode] = {}

    def cropped(levels: Pixels) -> Pixels:
        top = round((levels.shape[0] - spec.crop_height) / 2)
        left = round((levels.shape[1] - spec.crop_width) / 2)
        return np.ascontiguousarray(levels[top : top + spec.crop_height, left : left + spec.crop_width])

    with suppress(ImportError):
        cv2 = importlib.import_module("cv2")
        cv2.setNumThreads(1)

        def opencv(data: bytes) -> Pixels:
            levels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
            size = _resized(levels.shape[1], levels.shape[0], side)
            return cropped(cv2.resize(levels, size, interpolation=cv2.INTER_AREA))

        found["OpenCV"] = opencv
    with suppress(ImportError):
        av = importlib.import_module("av")
        reformatter = importlib.import_module("av.video.reformatter").VideoReformatter()

        def pyav(data: bytes) -> Pixels:
            codec = av.CodecContext.create("mjpeg", "r")
            codec.thread_count = 1
            frame = (codec.decode(av.Packet(data)) or codec.decode(None))[0]
            width, height = _resized(frame.width, frame.height, side)
            resized = reformatter.reformat(frame, width, height, "rgb24", interpolation="BICUBIC")
            return cropped(resized.to_ndarray())

        found["PyAV"] = pyav
    with suppress(ImportError, OSError):
        pyvips = importlib.import_module("pyvips")
        pyvips.cache_set_max(0)

        def vips(data: bytes) -> Pixels:
            image = pyvips.Image.thumbnail_buffer(data, 1 << 20, height=side, size="both")
            if min(image.width, image.height) != side:  # the height was the long side
                image = pyvips.Image.thumbnail_buffer(data, side, height=1 << 20, size="both")
            return cropped(image.numpy()[:, :, :3])

        found["pyvips"] = vips
    return found


def measure(
    name: str,
    inputs: Sequence[bytes],
    ours: Decode,
    plain: Decode,
    others: dict[str, Decode],
    embed: Callable[[Pixels], NDArray[np.float32]] | None,
    *,
    rounds: int,
) -> Decoded:
    """Time all decoders on some inputs, and compare the embeddings, unless `embed` is None."""
    ways = {"plain": plain, "ours": ours, **others}
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for way, decode in ways.items():
            start = time.process_time()
            for data in inputs:
                decode(data)
            best[way] = min(best[way], 1000 * (time.process_time() - start) / len(inputs))
    distances = dict.fromkeys(ways, float("nan"))
    if embed is not None:
        wanted = [embed(plain(data)) for data in inputs]
        for way, decode in ways.items():
            found = [embed(decode(data)) for data in inputs]
            distances[way] = max(_distance(a, b) for a, b in zip(found, wanted, strict=True))
    return Decoded(
        name=name,
        images=len(inputs),
        kilobytes=sum(map(len, inputs)) / len(inputs) / 1000,
        plain_ms=best["plain"],
        ours_ms=best["ours"],
        ratio=best["ours"] / best["plain"],
        distance=distances["ours"],
        others_ms={way: best[way] for way in others},
        others_distance={way: distances[way] for way in others},
    )


def _distance(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return float(1 - found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted))


def _resized(width: int, height: int, side: int) -> tuple[int, int]:
    """(width, height) with a short side of `side`, rounded as torchvision's Resize does."""
    short = min(width, height)
    return (
        side if width == short else int(side * width / height),
        side if height == short else int(side * height / width),
    )


def _cropped(image: Image.Image, spec: Preprocess) -> Image.Image:
    left, top = round((image.width - spec.crop_width) / 2), round((image.height - spec.crop_height) / 2)
    return image.crop((left, top, left + spec.crop_width, top + spec.crop_height))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    extractor = chosen_extractor(arguments)
    embedder = ImageEmbedder.load(extractor)
    spec, dim = embedder.manifest.preprocess, embedder.manifest.output.dim
    plain, others = plain_decoder(spec), other_decoders(spec)
    originals = photographs(arguments.data, PHOTOGRAPHS)
    others_shown = "".join(f"{other:>18}" for other in others)
    print(f"{'set':24}{'kB':>7}{'plain ms':>10}{'ours ms':>9}{'ratio':>7}{'distance':>10}{others_shown}")
    table = []
    for name, options in SETS.items():
        inputs = [enlarged(data, **options) for data in originals[:LARGE]] if options else originals
        found = measure(
            name,
            inputs,
            lambda data: decode_image(data, spec),
            plain,
            others,
            lambda pixels: embedder.embed(pixels)[:dim],
            rounds=arguments.rounds,
        )
        table.append(asdict(found))
        shown = "".join(f"{found.others_ms[o]:>9.2f} {found.others_distance[o]:.1e}" for o in others)
        print(
            f"{name:24}{found.kilobytes:>7.0f}{found.plain_ms:>10.2f}{found.ours_ms:>9.2f}{found.ratio:>7.3f}"
            f"{found.distance:>10.1e}{shown}",
            flush=True,
        )
    bars = {"ratio_large": BAR_LARGE, "distance": BAR_DISTANCE}
    print(json.dumps({"benchmark": "decoding", "bars": bars, "sets": table}))


if __name__ == "__main__":
    main()
