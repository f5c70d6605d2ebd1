"""Variants of the tiny extractor: the same projection with rounded weights, under the name of a precision."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from training.golden import Golden
from training.image_embedding import ImageEmbedder
from training.manifest import FILES, Manifest, sha256_of
from training.variant import VARIANT_VERSION, Calibration, GateFigures, ShotPair, Variant, VariantFiles

STEPS = {"int8": 8, "fp16": 64}


def tiny_variant(folder: Path, precision: str, *, passed: bool = True) -> Variant:
    """Write a variant into the folder of a tiny extractor."""
    files = VariantFiles.of(precision)
    model = onnx.load(folder / FILES.model)
    for tensor in model.graph.initializer:
        if tensor.name == "weights":
            weights = numpy_helper.to_array(tensor)
            rounded = np.rint(weights * STEPS[precision]) / STEPS[precision]
            tensor.CopyFrom(numpy_helper.from_array(rounded.astype(np.float32), "weights"))
    onnx.save(model, folder / files.model)
    embedder = ImageEmbedder.load(folder).with_model(folder / files.model)
    inputs = Golden.load(folder).inputs
    Golden(inputs, np.stack([embedder.embed(embedder.decode(data)) for data in inputs])).save(
        folder, files.golden
    )
    variant = Variant(
        format_version=VARIANT_VERSION,
        precision=precision,  # type: ignore[arg-type]
        manifest=Manifest.load(folder).digest,
        files={name: sha256_of(folder / name) for name in (files.model, files.golden)},
        calibration=Calibration("rounded", 0),
        gate=GateFigures(40, {"embedding": 0.999}, 0.99, (ShotPair(5, 0.9, 0.9),), 10, passed),
    )
    variant.save(folder)
    return variant
