"""torch -> an extractor folder: graph, parity check, golden vectors, classifier, manifest.

Imports torch only when there is something to export. Knows no service and no command line.
"""

import contextlib
import fcntl
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from training.backbones.catalogue import Entry, WeightsChoice, entry_of
from training.errors import ExportError, ManifestError
from training.golden import Golden, rows_error, synthetic_inputs
from training.manifest import FILES, FORMAT_VERSION, Input, Manifest, Output, Preprocess, sha256_of
from training.preprocess import decode_image, preprocess_steps

if TYPE_CHECKING:
    from training.backbones.backbone import Backbone
    from training.graph import PixelsToRow

# Raised whenever the same weights would give another graph; folders of an older version are exported again.
EXPORT_VERSION = 2
# Greatest relative error between torch and onnxruntime, both in float32; about 1e-6 is usual.
PARITY_BOUND = 1e-4
PARITY_BATCHES = (1, 2, 5)

Progress = Callable[[str, float], None]


def export_extractor(
    name: str,
    folder: Path,
    *,
    weights_path: Path | None = None,
    weights_sha256: str | None = None,
    random_seed: int | None = None,
    parity_images: Sequence[Path] = (),
    progress: Progress | None = None,
    force: bool = False,
    taps: bool = True,
) -> Manifest:
    """Export a network of the catalogue into `folder`, or do nothing when it is there already.

    The folder appears complete or not at all: everything is written beside it and renamed into place.

    Parameters
    ----------
    name : str
        A name of `training.backbones.CATALOGUE`.
    folder : Path
        The extractor folder. One that is damaged, or of an older export version, is replaced.
    weights_path, weights_sha256, random_seed
        A local weights file, the sha256 it must have, or a seed for random weights (for tests).
    parity_images : sequence of Path
        Images on which torch and onnxruntime must agree; without any, the synthetic ones.
    progress : callable, optional
        Called with the name of the stage that begins and the fraction (0 to 1) that is done.
    force : bool
        Export again, and replace another extractor that is in `folder`.
    taps : bool
        Whether the extractor also gives the pooled outputs of earlier stages, for heads that use them.

    Returns
    -------
    Manifest

    Raises
    ------
    WeightsError
        Unknown name, or weights that are missing, unreachable, not as expected or do not fit.
    ExportError
        The graph does not reproduce the network, or `folder` holds something else.
    """
    entry = entry_of(name)
    choice = WeightsChoice(weights_path, weights_sha256, random_seed)
    tell = progress or _say_nothing
    found = None if force else _exported(folder, entry, choice, taps)
    if found is None:
        with _locked(folder) as partial:
            # Another process may have exported it while this one waited.
            found = None if force else _exported(folder, entry, choice, taps)
            if found is None:
                _require_replaceable(folder)
                found = _write(entry, choice, partial, parity_images, tell, taps)
                tell("save", 0.95)
                _move_into_place(partial, folder)
    tell("done", 1.0)
    return found


def is_exported(folder: Path) -> bool:
    """Whether `folder` holds a complete extractor of this export version, every file as its manifest says.

    Takes about the time of reading the files; imports no torch.
    """
    try:
        manifest = Manifest.load(folder)
        manifest.verify_files(folder)
    except ManifestError:
        return False
    return manifest.export_version == EXPORT_VERSION


def _exported(folder: Path, entry: Entry, choice: WeightsChoice, taps: bool) -> Manifest | None:
    """The manifest of `folder` when it is what would be exported; None when it is to be (re)written."""
    if not is_exported(folder):
        return None
    manifest = Manifest.load(folder)
    if manifest.name != entry.name or not choice.is_met_by(manifest.weights, entry):
        raise ExportError(
            f"{folder} holds another extractor: {manifest.name} with weights from "
            f"{manifest.weights.source!r}. Heads trained on it would no longer fit. "
            "Choose another folder, or replace it by `headstart export` with --force"
        )
    if bool(manifest.taps) != taps:
        raise ExportError(
            f"{folder} holds {manifest.name} {'with' if manifest.taps else 'without'} taps. "
            "Heads trained on it would no longer fit. "
            "Choose another folder, or replace it by `headstart export` with --force"
        )
    return manifest


def _write(
    entry: Entry,
    choice: WeightsChoice,
    partial: Path,
    parity_images: Sequence[Path],
    tell: Progress,
    taps: bool,
) -> Manifest:
    """Write all files into `partial`, the manifest last."""
    tell("load weights", 0.0)
    from training.backbones.load import load_backbone

    backbone = load_backbone(entry.name, choice)
    encoded = [path.read_bytes() for path in parity_images]
    if not taps:
        backbone = replace(backbone, taps=())
    source = backbone.source_statistics()
    if source is not None:
        source.save(partial)
    backbone.classifier.save(partial)
    if choice.path is not None:  # nobody else has them
        from training.backbones.weights import save_weights

        save_weights(backbone.module, partial)
    return write_extractor(backbone, partial, parity_inputs=encoded, tell=tell)


def write_extractor(
    backbone: "Backbone", folder: Path, *, parity_inputs: Sequence[bytes], tell: Progress
) -> Manifest:
    """Write graph, golden vectors and manifest beside the files that are in `folder` already.

    Parameters
    ----------
    folder : exists; what is in it becomes part of the extractor, `classifier.npz` at least
    parity_inputs : encoded images on which torch and onnxruntime must agree; without any, the synthetic ones

    Raises
    ------
    ExportError
        The graph does not reproduce the network.
    """
    from training.graph import OPSET, PixelsToRow, export_graph

    names = sorted(path.name for path in folder.iterdir())
    spec = replace(backbone.preprocess, steps=preprocess_steps(backbone.preprocess))
    graph_input, output = Input(spec.crop_height, spec.crop_width), Output(backbone.dim)
    module = PixelsToRow(backbone)
    tell("trace the network", 0.2)
    (folder / FILES.model).write_bytes(export_graph(module, graph_input, output))
    tell("compare with torch", 0.6)
    golden_inputs = synthetic_inputs()
    pixels = np.stack([decode_image(data, spec) for data in parity_inputs or golden_inputs])
    check_parity(folder / FILES.model, module, pixels)
    tell("golden vectors", 0.8)
    _golden(golden_inputs, module, spec).save(folder)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        export_version=EXPORT_VERSION,
        name=backbone.name,
        modality="image",
        architecture=backbone.architecture,
        weights=backbone.weights,
        input=graph_input,
        preprocess=spec,
        output=output,
        taps=tuple(point.tap for point in module.points),
        opset=OPSET,
        files={n: sha256_of(folder / n) for n in (FILES.model, FILES.golden, *names)},
    )
    manifest.save(folder)
    return manifest


def check_parity(model: Path, module: "PixelsToRow", pixels: NDArray[np.uint8]) -> float:
    """Compare onnxruntime with torch on images, in batches of 1, 2 and 5.

    Parameters
    ----------
    pixels : ndarray, uint8, shape (n, height, width, 3)
        All are used; where they do not fill a batch, they are repeated.

    Returns
    -------
    float
        The greatest relative error found of a layer, see `training.golden.rows_error`.

    Raises
    ------
    ExportError
        It exceeds `PARITY_BOUND`.
    """
    # Here, so that a second run, which checks nothing, starts at once.
    from training.runtime import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    input_name = session.get_inputs()[0].name
    worst = 0.0
    for size in PARITY_BATCHES:
        for start in range(0, len(pixels), size):
            batch = pixels[np.arange(start, start + size) % len(pixels)]
            outputs = session.run(None, {input_name: batch})
            found, expected = np.concatenate(outputs, axis=1), module.rows(batch)
            worst = max(worst, rows_error(found, expected, module.layer_dims))
    if not worst <= PARITY_BOUND:
        raise ExportError(
            f"the ONNX graph does not reproduce the network: relative error {worst:.2g}, "
            f"allowed {PARITY_BOUND:g}"
        )
    return worst


def _golden(inputs: tuple[bytes, ...], module: "PixelsToRow", spec: Preprocess) -> Golden:
    """Reference rows in float64, rounded: the same on every machine, unlike float32 sums."""
    pixels = np.stack([decode_image(data, spec) for data in inputs])
    return Golden(inputs, module.double().rows(pixels).astype(np.float32))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder` to write into; one process at a time, removed at the end."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
        partial.mkdir()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)  # gone already after a success


def _require_replaceable(folder: Path) -> None:
    """Never remove what is not an extractor: the path may be a slip."""
    if (
        folder.exists()
        and not (folder / FILES.manifest).is_file()
        and (not folder.is_dir() or any(folder.iterdir()))
    ):
        raise ExportError(f"{folder} exists and is not an extractor folder. Choose another, or remove it")


def _move_into_place(partial: Path, folder: Path) -> None:
    replaced = folder.with_name(f".{folder.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    partial.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def _say_nothing(stage: str, fraction: float) -> None:
    """Progress that nobody watches."""
