"""A photograph of 12 megapixels: what decoding it for the network costs, and what that does to its embedding.

It is compared with what Pillow does when told plainly to open, resize and crop it. Knows no server.
"""

import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.embedded import Pixels, best_time_s, pixel_embedder
from training.manifest import Manifest, Preprocess
from training.preprocess import decode_image

SIZE = (4000, 3000)
QUALITY = 92
NOISE_LEVELS = 4.0  # of a sensor: what is enlarged is smooth, and decodes faster than a photograph does
REPEATS = 9


@dataclass(frozen=True)
class LargePhotograph:
    """Times of one image, in seconds of the processor, and the cosine distance of the two embeddings."""

    decode_s: float
    plain_s: float
    distance: float


def measure(extractor: Path, photograph: Path, repeats: int = REPEATS) -> LargePhotograph:
    """Enlarge a photograph to 12 megapixels, and decode it both ways; the best of `repeats` counts."""
    spec = Manifest.load(extractor).preprocess
    data = enlarged(photograph)
    embed = pixel_embedder(extractor)
    ours, plainly = embed(decode_image(data, spec)), embed(plain(data, spec))
    cosine = ours @ plainly / (np.linalg.norm(ours) * np.linalg.norm(plainly))
    return LargePhotograph(
        decode_s=best_time_s(lambda: decode_image(data, spec), repeats, time.process_time),
        plain_s=best_time_s(lambda: plain(data, spec), repeats, time.process_time),
        distance=1 - float(cosine),
    )


def enlarged(photograph: Path) -> bytes:
    """A JPEG of 4000 x 3000 pixels."""
    with Image.open(photograph) as image:
        pixels = np.asarray(image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(0).normal(0, NOISE_LEVELS, pixels.shape)
    file = io.BytesIO()
    noisy = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def plain(data: bytes, spec: Preprocess) -> Pixels:
    """Open, resize all of it, crop the middle."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    side = spec.resize_short_side_px or min(spec.crop_width, spec.crop_height)
    scale = side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - spec.crop_width) // 2, (image.height - spec.crop_height) // 2
    return np.array(image.crop((left, top, left + spec.crop_width, top + spec.crop_height)))
