"""A small convolutional extractor with random weights, as a folder: with a residual sum and a tap."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.export import EXPORT_VERSION
from training.golden import Golden, synthetic_inputs
from training.image_embedding import ImageEmbedder
from training.manifest import (
    FILES,
    FORMAT_VERSION,
    TAPS_OUTPUT,
    Input,
    Manifest,
    Output,
    Preprocess,
    Tap,
    Weights,
    sha256_of,
)
from training.preprocess import DecodeLimits

SIDE, CHANNELS, DIM = 32, 8, 24
SPEC = Preprocess("short_side", 36, SIDE, SIDE, "bicubic", (127.0,) * 3, (128.0,) * 3)


def small_graph(convolutions: int = 5) -> onnx.ModelProto:
    """Stem, convolutions with ReLU6, a sum of two of them, a last one without; means of both ends."""
    rng = np.random.default_rng(0)
    constants = {
        "mean": np.full((1, 3, 1, 1), 127, np.float32),
        "std": np.full((1, 3, 1, 1), 128, np.float32),
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
        "places": np.array([2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["floats", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["x0"]),
    ]
    inputs, last = 3, convolutions
    for place in range(1, last + 1):
        outputs = DIM if place == last else CHANNELS
        weights = rng.normal(0, (2 / (9 * inputs)) ** 0.5, (outputs, inputs, 3, 3))
        constants[f"w{place}"] = weights.astype(np.float32)
        constants[f"b{place}"] = rng.normal(0, 0.1, outputs).astype(np.float32)
        source = "sum" if place == last and last > 3 else f"x{place - 1}"
        nodes.append(
            helper.make_node("Conv", [source, f"w{place}", f"b{place}"], [f"c{place}"], pads=[1, 1, 1, 1])
        )
        nodes.append(helper.make_node("Clip", [f"c{place}", "low", "high"], [f"x{place}"]))
        if place == last - 1 and last > 3:
            nodes.append(helper.make_node("Add", [f"x{place}", f"x{place - 1}"], ["sum"]))
        inputs = outputs
    nodes += [
        helper.make_node("ReduceMean", [f"x{last}", "places"], ["embedding"], keepdims=0),
        helper.make_node("ReduceMean", ["x2", "places"], [TAPS_OUTPUT], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIM]),
            helper.make_tensor_value_info(TAPS_OUTPUT, TensorProto.FLOAT, ["batch", CHANNELS]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def small_extractor(folder: Path, convolutions: int = 5) -> Path:
    """Write the extractor folder; its golden rows are what onnxruntime gives."""
    folder.mkdir(parents=True)
    onnx.save(small_graph(convolutions), folder / FILES.model)
    inputs = synthetic_inputs()
    Golden(inputs, np.zeros((len(inputs), DIM + CHANNELS), np.float32)).save(folder)
    _manifest(folder).save(folder)
    embedder = ImageEmbedder(_manifest(folder), None, DecodeLimits()).with_model(folder / FILES.model)
    Golden(inputs, np.stack([embedder.embed(embedder.decode(data)) for data in inputs])).save(folder)
    _manifest(folder).save(folder)
    return folder


def _manifest(folder: Path) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        export_version=EXPORT_VERSION,
        name="small",
        modality="image",
        architecture="random convolutions",
        weights=Weights("random", "0" * 64, "Apache-2.0"),
        input=Input(SIDE, SIDE),
        preprocess=SPEC,
        output=Output(DIM),
        taps=(Tap("stage2", CHANNELS),),
        opset=18,
        files={name: sha256_of(folder / name) for name in (FILES.model, FILES.golden)},
    )
