"""Embeddings of the evaluation sets by the real extractor, their splits, and figures on test images.

Shared by the benchmarks of heads. Images that share a file name stay on one side of a split, and no test
image is ever in a support set.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.export import export_extractor
from training.manifest import FILES, Manifest
from training.preprocess import decode_image
from training.runtime import onnxruntime

REPOSITORY = Path(__file__).resolve().parent.parent
MAX_TEST_PER_CLASS = 250
BINS = 15
SUFFIXES = (".jpg", ".jpeg", ".png")
# WordNet ids of ImageNet's dogs, foxes, wolves and cats: what a head of cats and dogs may call known.
CATS_AND_DOGS = range(2085620, 2127053)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]
Embed = Callable[[bytes], Floats]
EmbedPixels = Callable[[Pixels], Floats]


@dataclass(frozen=True, eq=False)
class EmbeddedSet:
    """Embeddings (n, d) of one labelled set, with the label and the file name of each image."""

    embeddings: Floats
    labels: npt.NDArray[np.str_]
    names: npt.NDArray[np.str_]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--extractor` and `--data`."""
    parser.add_argument("--extractor", type=Path, help="folder; the default extractor if left out")
    default_data = os.environ.get("HEADSTART_DATA", REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default_data))


def chosen_extractor(arguments: argparse.Namespace) -> Path:
    """The folder of `--extractor`; without it the default one, exported if need be."""
    if arguments.extractor is not None:
        return Path(arguments.extractor)
    folder = REPOSITORY / ".headstart" / "extractors" / "efficientnet-lite0"
    export_extractor("efficientnet-lite0", folder)
    return folder


def embed_sets(arguments: argparse.Namespace, names: Sequence[str]) -> dict[str, EmbeddedSet]:
    """Embed whole sets with the chosen extractor, exporting the default one if need be."""
    extractor = chosen_extractor(arguments)
    return {name: embed_set(extractor, arguments.data, name) for name in names}


def embedder(extractor: Path) -> Embed:
    """From the bytes of an image to its embedding (d,), on one thread."""
    spec = Manifest.load(extractor).preprocess
    embed = pixel_embedder(extractor)
    return lambda data: embed(decode_image(data, spec))


def pixel_embedder(extractor: Path) -> EmbedPixels:
    """From a decoded image (height, width, 3) to its embedding (d,), on one thread."""
    manifest = Manifest.load(extractor)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(extractor / FILES.model, options, ["CPUExecutionProvider"])

    def embed(image: Pixels) -> Floats:
        return np.asarray(session.run(None, {manifest.input.name: image[np.newaxis]})[0][0])

    return embed


def embed_set(extractor: Path, data_root: Path, name: str, most_per_class: int | None = None) -> EmbeddedSet:
    """Embed the images of a set, or the first `most_per_class` of each class in the order of their names."""
    embed = embedder(extractor)
    folders = sorted(path for path in (data_root / name).iterdir() if path.is_dir())
    paths = [path for folder in folders for path in _images(folder)[:most_per_class]]
    return EmbeddedSet(
        np.stack([embed(path.read_bytes()) for path in paths]),
        np.array([path.parent.name for path in paths]),
        np.array([path.name for path in paths]),
    )


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def split(images: EmbeddedSet, shots: int, seed: int) -> tuple[Ints, Ints]:
    """Rows of a support set of `shots` per class, and of test images that share no file name with it."""
    names, name_of = np.unique(images.names, return_inverse=True)
    place = np.random.default_rng(seed).permutation(len(names))[name_of]
    members = [np.flatnonzero(images.labels == label) for label in np.unique(images.labels)]
    members = [rows[np.argsort(place[rows])] for rows in members]
    support = np.concatenate([rows[:shots] for rows in members])
    taken = np.isin(name_of, name_of[support])
    return support, np.concatenate([rows[~taken[rows]][-MAX_TEST_PER_CLASS:] for rows in members])


def calibration_error(probabilities: Floats, correct: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error in 15 bins of equal width (Guo et al., ICML 2017)."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=confidence - correct, minlength=BINS)
    return float(np.abs(gaps).sum() / len(correct))


def balanced_accuracy(predicted: Sequence[str], truth: npt.NDArray[np.str_]) -> float:
    """Mean recall over the classes."""
    right = np.array(predicted) == truth
    return float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))


def without_cats_and_dogs(images: EmbeddedSet) -> Floats:
    """The embeddings of `imagenet_sample` that are of no cat or dog; all of another set."""
    if not images.labels[0].startswith("n0"):
        return images.embeddings
    ids = [int(label.split("_")[0][1:]) for label in images.labels]
    return images.embeddings[[number not in CATS_AND_DOGS for number in ids]]


def normalised(embeddings: Floats) -> Floats:
    """Rows of unit length."""
    return np.asarray(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), dtype=np.float32)


def best_time_s(
    call: Callable[[], Any], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Shortest time of `repeats` calls by a clock: by default that on the wall."""
    times = []
    for _ in range(repeats):
        start = clock()
        call()
        times.append(clock() - start)
    return min(times)
