"""An extractor folder and labelled images -> a variant in another precision, written into the folder.

Some of the images calibrate it; the others say what it is worth. Needs onnx and onnxruntime, no torch. Knows
no command line.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import SupportSetError
from training.gate import SHOTS, pass_gate
from training.golden import Golden
from training.half_graph import halve_graph
from training.heads.support import NEGATIVE_LABEL
from training.image_embedding import ImageEmbedder
from training.image_folder import ImageFolder
from training.int8_graph import quantise_graph
from training.manifest import FILES, sha256_of
from training.preprocess import DEFAULT_LIMITS, DecodeLimits
from training.shot_accuracy import LEAST_TEST
from training.usable_images import LeftOut, UsableImages, check_images
from training.variant import VARIANT_VERSION, Calibration, Precision, Variant, VariantFiles

Progress = Callable[[str, float], None]

CALIBRATED_ON = 48  # images; twice as many change the cosines by less than 0.0001
MOST_GATED = 1000
METHODS = {
    "int8": "weights per channel; activations of nine in ten images; biases corrected; the first two "
    "convolutions in float",
    "fp16": "all but the rows in float16",
}
CHECKED, MADE, EMBEDDED = 0.05, 0.6, 0.95


@dataclass(frozen=True)
class Quantised:
    """A variant that was written, and the images that were not used."""

    variant: Variant
    left_out: tuple[LeftOut, ...]


def quantise(
    folder: Path,
    images: ImageFolder,
    precision: Precision,
    *,
    limits: DecodeLimits = DEFAULT_LIMITS,
    threads: int = 1,
    progress: Progress | None = None,
) -> Quantised:
    """Make a variant of an extractor; one of that precision that is there is replaced.

    It is written whether it passes the gate or not: the record says so, and who asks for it by name gets it.

    Parameters
    ----------
    images : at least two classes; those of `__none__` are left out
    progress : called with the stage that begins and the fraction (0 to 1) that is done

    Raises
    ------
    ManifestError
        The folder is no extractor, or an altered one.
    SupportSetError
        The images are too few: calibration, heads and their test each need some.
    ExportError
        The network cannot be quantised.
    """
    tell = progress or _say_nothing
    embedder = ImageEmbedder.load(folder, limits=limits)
    tell("read the images", 0.0)
    usable = check_images(images.without(NEGATIVE_LABEL), limits=limits, threads=threads)
    calibrating, gated = _share_out(usable)
    tell("make the graph", CHECKED)
    model = (folder / FILES.model).read_bytes()
    pixels = np.stack([embedder.decode(usable.paths[row].read_bytes()) for row in calibrating])
    if precision == "int8":
        made = quantise_graph(
            model,
            pixels,
            input_name=embedder.manifest.input.name,
            tell=lambda done: tell("make the graph", CHECKED + (MADE - CHECKED) * done),
        )
    else:
        made = halve_graph(model)
    with _locked(folder) as written:
        files = VariantFiles.of(precision)
        (written / files.model).write_bytes(made)
        narrow = embedder.with_model(written / files.model)
        golden = Golden.load(folder)
        rows = np.stack([narrow.embed(narrow.decode(data)) for data in golden.inputs])
        Golden(golden.inputs, rows).save(written, files.golden)
        expected, found = _both(embedder, narrow, [usable.paths[row] for row in gated], tell)
        tell("fit heads", EMBEDDED)
        labels = [usable.labels[row] for row in gated]
        variant = Variant(
            format_version=VARIANT_VERSION,
            precision=precision,
            manifest=embedder.manifest.digest,
            files={name: sha256_of(written / name) for name in (files.model, files.golden)},
            calibration=Calibration(METHODS[precision], len(calibrating) if precision == "int8" else 0),
            gate=pass_gate(expected, found, labels, embedder.manifest.layer_dims),
        )
        variant.save(written)
        _move(written, folder, files)
    tell("done", 1.0)
    return Quantised(variant, usable.left_out)


def _share_out(images: UsableImages) -> tuple[list[int], list[int]]:
    """Rows of the images that calibrate, evenly from all classes, and of those for the gate.

    Raises
    ------
    SupportSetError
        A class has too few.
    """
    labels = np.array(images.labels)
    rng = np.random.default_rng(0)
    names = np.unique(labels)
    members = [rng.permutation(np.flatnonzero(labels == name)) for name in names]
    each = max(1, CALIBRATED_ON // len(names))
    least = min(SHOTS) + LEAST_TEST
    smallest = min(members, key=len)
    if len(smallest) < least + 1:
        raise SupportSetError(
            f"expected {least + 1} images of each class at least ({min(SHOTS)} to learn from, "
            f"{LEAST_TEST} to test with, and one to calibrate on), found {len(smallest)} of "
            f"{labels[smallest[0]]}"
        )
    calibrating = [int(row) for rows in members for row in rows[: min(each, len(rows) - least)]]
    most = max(least, MOST_GATED // len(names))
    gated = [int(row) for rows in members for row in rows[min(each, len(rows) - least) :][:most]]
    return sorted(calibrating[:CALIBRATED_ON]), sorted(gated)


def _both(
    wide: ImageEmbedder, narrow: ImageEmbedder, paths: list[Path], tell: Progress
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The rows of images by both, each decoded once."""
    expected, found = [], []
    for done, path in enumerate(paths):
        tell("compare", MADE + (EMBEDDED - MADE) * done / len(paths))
        pixels = wide.decode(path.read_bytes())
        expected.append(wide.embed(pixels))
        found.append(narrow.embed(pixels))
    return np.stack(expected), np.stack(found)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """An empty folder in the extractor's to write into; one process at a time, removed at the end."""
    written = folder / ".variant.partial"
    with (folder / ".variant.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        written.mkdir(exist_ok=True)
        try:
            yield written
        finally:
            for path in written.iterdir():
                path.unlink()
            written.rmdir()


def _move(written: Path, folder: Path, files: VariantFiles) -> None:
    """The record goes first and comes last: what is half there is no variant."""
    (folder / files.record).unlink(missing_ok=True)
    for name in (files.model, files.golden, files.record):
        os.replace(written / name, folder / name)


def _say_nothing(stage: str, fraction: float) -> None:
    """Progress that nobody watches."""
