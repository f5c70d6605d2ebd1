"""What an extractor in another precision keeps, and how much faster it is.

The variant is made anew from a copy of the extractor, calibrated and gated on images of all three sets, 20
of each class. These are left out afterwards, with all that share a file name with them. Heads then learn
from 5 and 20 examples of each class of the other images, on rows of either precision, in the same splits:
balanced accuracy, mean of the seeds. Speed is that of one thread, by processor time, photographs one at a
time, both precisions in turn; `served` is decoding and network together.

    python -m benchmarks.precision [--precision int8|fp16] [--extractor FOLDER] [--data FOLDER] [--seeds N]
"""

import argparse
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decoding import photographs
from benchmarks.embedded import (
    EmbeddedSet,
    Floats,
    add_arguments,
    balanced_accuracy,
    chosen_extractor,
    split,
)
from training.gate import SHOTS, row_cosines
from training.heads import FitOptions, fit_head
from training.image_embedding import ImageEmbedder
from training.image_folder import ImageFolder, images_under
from training.quantise import quantise
from training.variant import PRECISIONS, VariantFiles

SETS = ("cats_dogs", "blood_cells", "ham10000")
CALIBRATION_EACH = 20
TIMED = 60
BAR_LOST, BAR_NETWORK = 0.005, 1.7


def calibration_paths(data: Path, name: str) -> list[Path]:
    """Images of each class, evenly over the names."""
    classes = sorted(path for path in (data / name).iterdir() if path.is_dir())
    found = []
    for folder in classes:
        paths = images_under(folder)
        rows = np.linspace(0, len(paths) - 1, min(CALIBRATION_EACH, len(paths))).astype(int)
        found += [paths[row] for row in rows]
    return found


def make_variant(extractor: Path, data: Path, precision: Any, work: Path) -> tuple[ImageEmbedder, Any]:
    """A copy of the extractor with a variant, loaded; and the record of the variant."""
    folder, images = work / extractor.name, work / "images"
    shutil.copytree(extractor, folder)
    for name in SETS:
        for path in calibration_paths(data, name):
            place = images / f"{name}-{path.parent.name}"
            place.mkdir(parents=True, exist_ok=True)
            (place / path.name).symlink_to(path.absolute())
    made = quantise(folder, ImageFolder.read(images), precision)
    embedder = ImageEmbedder.load(folder)
    return embedder.with_model(folder / VariantFiles.of(precision).model), made.variant


def embed_both(
    wide: ImageEmbedder, narrow: ImageEmbedder, data: Path, name: str
) -> tuple[EmbeddedSet, EmbeddedSet]:
    """The images of a set that calibrated nothing, through both; each is decoded once."""
    used = {path.name for path in calibration_paths(data, name)}
    classes = sorted(path for path in (data / name).iterdir() if path.is_dir())
    paths = [path for folder in classes for path in images_under(folder) if path.name not in used]
    rows: tuple[list[Floats], list[Floats]] = ([], [])
    for path in paths:
        pixels = wide.decode(path.read_bytes())
        for embedder, found in zip((wide, narrow), rows, strict=True):
            found.append(embedder.embed(pixels))
    labels, names = np.array([p.parent.name for p in paths]), np.array([p.name for p in paths])
    wide_set, narrow_set = (EmbeddedSet(np.stack(found), labels, names) for found in rows)
    return wide_set, narrow_set


def accuracies(images: EmbeddedSet, dim: int, shots: int, seeds: int) -> Floats:
    """Balanced accuracy of heads on embeddings, one for each seed."""
    found = []
    embeddings = np.ascontiguousarray(images.embeddings[:, :dim])
    for seed in range(seeds):
        support, test = split(images, shots, seed)
        head = fit_head(
            embeddings[support],
            images.labels[support].tolist(),
            extractor_digest=hashlib.sha256(b"benchmark").hexdigest(),
            options=FitOptions(seed=seed),
        )
        found.append(balanced_accuracy(head.predict(embeddings[test]).labels, images.labels[test]))
    return np.array(found, np.float32)


def speeds(
    wide: ImageEmbedder, narrow: ImageEmbedder, inputs: Sequence[bytes], rounds: int
) -> dict[str, float]:
    """Milliseconds of processor time an image: decoding, and the network in either precision."""
    pixels = [wide.decode(data) for data in inputs]

    def per_image_ms(call: Callable[[Any], Any], items: Sequence[Any]) -> float:
        start = time.process_time()
        for item in items:
            call(item)
        return 1000 * (time.process_time() - start) / len(items)

    laps = [
        (
            per_image_ms(wide.decode, inputs),
            per_image_ms(wide.embed, pixels),
            per_image_ms(narrow.embed, pixels),
        )
        for _ in range(rounds)
    ]
    decode, fp32, variant = (min(times) for times in zip(*laps, strict=True))
    return {
        "decode_ms": decode,
        "fp32_ms": fp32,
        "variant_ms": variant,
        "ratio_network": fp32 / variant,
        "ratio_served": (decode + fp32) / (decode + variant),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--precision", choices=PRECISIONS, default="int8")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    extractor = chosen_extractor(arguments)
    wide = ImageEmbedder.load(extractor)
    dims = wide.manifest.layer_dims
    ends = np.cumsum(list(dims.values()))[:-1]
    with tempfile.TemporaryDirectory() as work:
        narrow, variant = make_variant(extractor, arguments.data, arguments.precision, Path(work))
        print(f"gate: {'passed' if variant.passed else 'not passed'}, {variant.gate.images} images\n")
        print(f"{'set':14}{'images':>8}{'shots':>7}{'fp32':>8}{arguments.precision:>8}{'points':>8}  cosines")
        table: list[dict[str, Any]] = []
        for name in SETS:
            both = embed_both(wide, narrow, arguments.data, name)
            layers = [np.split(images.embeddings, ends, axis=1) for images in both]
            cosines = {
                layer: float(row_cosines(a, b).mean()) for layer, a, b in zip(dims, *layers, strict=True)
            }
            shown = " ".join(f"{cosine:.4f}" for cosine in cosines.values())
            for shots in SHOTS:
                fp32, found = (
                    float(accuracies(i, wide.manifest.output.dim, shots, arguments.seeds).mean())
                    for i in both
                )
                row = {
                    "set": name,
                    "images": len(both[0].labels),
                    "shots": shots,
                    "fp32": fp32,
                    "variant": found,
                }
                table.append({**row, "cosines": cosines})
                print(
                    f"{name:14}{row['images']:>8}{shots:>7}{fp32:>8.4f}{found:>8.4f}"
                    f"{100 * (found - fp32):>+8.2f}  {shown}",
                    flush=True,
                )
        timing = speeds(wide, narrow, photographs(arguments.data, TIMED), arguments.rounds)
    lost = max(row["fp32"] - row["variant"] for row in table)
    print("\n" + "  ".join(f"{key} {value:.2f}" for key, value in timing.items()))
    print(f"bar: at most {100 * BAR_LOST:.1f} points lost: {100 * lost:.2f}")
    print(f"bar: network at least {BAR_NETWORK} times as fast: {timing['ratio_network']:.2f}")
    result = {"precision": arguments.precision, "seeds": arguments.seeds, "lost": lost, **timing}
    print(json.dumps({"benchmark": "precision", **result, "sets": table}))


if __name__ == "__main__":
    main()
