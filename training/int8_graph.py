"""A float graph -> the same graph with convolutions of 8 bits, calibrated on images.

Weights are int8 with a scale for each output channel, activations uint8 with one scale for a tensor, from its
least and greatest values on the images. The first convolutions stay in float. What rounding adds to a channel
on average is taken out of its bias (Nagel et al., ICCV 2019, section 4.2, with images instead of statistics).
Knows ONNX; knows no extractor folder and no labels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training.errors import ExportError
from training.runtime import onnxruntime

Pixels = NDArray[np.uint8]
Range = tuple[float, float]
Tell = Callable[[float], None]

# The stem and the depthwise convolution after it have few weights and the largest share of the error.
FLOAT_CONVOLUTIONS = 2
# Rare extremes of a few images are cut off rather than let the steps of all be coarser.
IMAGES_WITHIN = 0.9
LEVELS = 255
_ACTIVATIONS = ("Clip", "Relu")
# A bias is stored as int32 in units of both scales: a channel without weights would have none.
_LARGEST_BIAS = 2.0**30
_LEAST_SCALE = 1e-8
_BATCH = 8


@dataclass(frozen=True)
class _Float:
    """The float model, and what of it becomes 8 bits."""

    model: onnx.ModelProto

    @property
    def convolutions(self) -> list[onnx.NodeProto]:
        return [node for node in self.model.graph.node if node.op_type == "Conv"]

    @property
    def quantised(self) -> list[onnx.NodeProto]:
        """The convolutions of 8 bits."""
        return self.convolutions[FLOAT_CONVOLUTIONS:]

    def weights(self) -> dict[str, NDArray[Any]]:
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}

    def narrow_tensors(self) -> list[str]:
        """Names of the tensors of 8 bits: around convolutions, and sums of such."""
        users: dict[str, list[onnx.NodeProto]] = {}
        for node in self.model.graph.node:
            for name in node.input:
                users.setdefault(name, []).append(node)
        found: dict[str, None] = {}
        chosen = {node.output[0] for node in self.quantised}
        for node in self.model.graph.node:
            if node.output[0] in chosen:
                after = users.get(node.output[0], [])
                activated = len(after) == 1 and after[0].op_type in _ACTIVATIONS
                found[node.input[0]] = None
                found[after[0].output[0] if activated else node.output[0]] = None
            elif node.op_type == "Add" and all(name in found for name in node.input):
                found[node.output[0]] = None
        return list(found)


def quantise_graph(model: bytes, pixels: Pixels, *, input_name: str, tell: Tell | None = None) -> bytes:
    """Make the convolutions of a model 8 bits wide.

    Parameters
    ----------
    model : a serialised float model
    pixels : (n, height, width, 3), the images it is calibrated on
    input_name : of the model
    tell : called with the fraction (0 to 1) that is done

    Raises
    ------
    ExportError
        The network has no convolutions beyond the first ones.
    """
    source = _Float(onnx.load_model_from_string(model))
    if not source.quantised:
        raise ExportError(
            f"expected a network of more than {FLOAT_CONVOLUTIONS} convolutions, found "
            f"{len(source.convolutions)}: int8 would change nothing"
        )
    ranges = _ranges(source, pixels, input_name)
    narrow = onnx.ModelProto()
    narrow.CopyFrom(source.model)
    _rewrite(narrow, source, ranges)
    _fold_normalisation(narrow)
    _drop_unused(narrow)
    _correct_biases(narrow, source, pixels, input_name, tell)
    return bytes(narrow.SerializeToString(deterministic=True))


def _session(model: onnx.ModelProto, outputs: Sequence[str], *, as_written: bool = False) -> Any:
    """A session with other outputs. `as_written` keeps onnxruntime from joining steps."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(copy.SerializeToString(), options, ["CPUExecutionProvider"])


def _batches(pixels: Pixels) -> Iterator[Pixels]:
    for start in range(0, len(pixels), _BATCH):
        yield pixels[start : start + _BATCH]


def _ranges(source: _Float, pixels: Pixels, input_name: str) -> dict[str, Range]:
    """Of each narrow tensor the least and the greatest value of nearly every image; zero is always inside."""
    names = source.narrow_tensors()
    session = _session(source.model, names)
    least, greatest = np.zeros((2, len(names), len(pixels)))
    for start in range(0, len(pixels), _BATCH):
        batch = pixels[start : start + _BATCH]
        for row, values in enumerate(session.run(names, {input_name: batch})):
            each = values.reshape(len(values), -1)
            least[row, start : start + len(batch)] = each.min(axis=1)
            greatest[row, start : start + len(batch)] = each.max(axis=1)
    lows = np.minimum(np.quantile(least, 1 - IMAGES_WITHIN, axis=1), 0)
    highs = np.maximum(np.quantile(greatest, IMAGES_WITHIN, axis=1), 0)
    return {name: (float(low), float(high)) for name, low, high in zip(names, lows, highs, strict=True)}


def _scale(ends: Range) -> np.float32:
    return np.float32(max((ends[1] - ends[0]) / LEVELS, _LEAST_SCALE))


def _rewrite(model: onnx.ModelProto, source: _Float, ranges: Mapping[str, Range]) -> None:
    """Put QuantizeLinear and DequantizeLinear behind each narrow tensor, and narrow the weights, in place."""
    graph, weights = model.graph, source.weights()
    chosen = {node.output[0] for node in source.quantised}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] in chosen:
            nodes += _narrow_weights(graph, node, weights, _scale(ranges[node.input[0]]))
        nodes.append(node)
        for name in node.output:
            if name in ranges:
                nodes += _narrow(graph, name, ranges[name])
        for place, name in enumerate(node.input):
            if name in ranges:
                node.input[place] = f"{name}_wide"
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kept)


def _constant(graph: onnx.GraphProto, name: str, value: NDArray[Any]) -> str:
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _narrow(graph: onnx.GraphProto, name: str, ends: Range) -> list[onnx.NodeProto]:
    scale = _scale(ends)
    zero = np.clip(np.rint(-ends[0] / scale), 0, LEVELS).astype(np.uint8)
    units = [
        _constant(graph, f"{name}_scale", np.array(scale)),
        _constant(graph, f"{name}_zero", np.array(zero)),
    ]
    return [
        helper.make_node("QuantizeLinear", [name, *units], [f"{name}_narrow"], name=f"{name}_narrow"),
        helper.make_node(
            "DequantizeLinear", [f"{name}_narrow", *units], [f"{name}_wide"], name=f"{name}_wide"
        ),
    ]


def _narrow_weights(
    graph: onnx.GraphProto, node: onnx.NodeProto, weights: Mapping[str, NDArray[Any]], input_scale: np.float32
) -> list[onnx.NodeProto]:
    """Weights as int8 and bias as int32, by output channel; the node then reads them, in place."""
    values = weights[node.input[1]]
    bias = weights[node.input[2]] if len(node.input) > 2 else np.zeros(len(values), np.float32)
    rows = values.reshape(len(values), -1)
    least = np.maximum(np.abs(bias) / (input_scale * _LARGEST_BIAS), _LEAST_SCALE)
    scales = np.maximum(np.abs(rows).max(axis=1) / 127, least).astype(np.float32)
    narrow = np.rint(rows / scales[:, np.newaxis]).astype(np.int8).reshape(values.shape)
    units = (input_scale * scales).astype(np.float32)
    parts = {
        "weight": (narrow, scales, np.int8),
        "bias": (np.rint(bias / units).astype(np.int32), units, np.int32),
    }
    nodes, name = [], node.output[0]
    for place, (part, (numbers, scale, kind)) in enumerate(parts.items(), start=1):
        inputs = [
            _constant(graph, f"{name}_{part}_narrow", numbers),
            _constant(graph, f"{name}_{part}_scale", scale),
            _constant(graph, f"{name}_{part}_zero", np.zeros(len(scale), kind)),
        ]
        wide = f"{name}_{part}"
        nodes.append(helper.make_node("DequantizeLinear", inputs, [wide], name=wide, axis=0))
        if place < len(node.input):
            node.input[place] = wide
        else:
            node.input.append(wide)
    return nodes


def _fold_normalisation(model: onnx.ModelProto) -> None:
    """(pixel - mean) / std as one step, where it is the same for all colours, in place."""
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    chain = {node.input[0]: node for node in graph.node if node.op_type in ("Cast", "Sub", "Div")}
    for cast in [node for node in graph.node if node.op_type == "Cast"]:
        minus = chain.get(cast.output[0])
        over = chain.get(minus.output[0]) if minus is not None else None
        if minus is None or over is None or (minus.op_type, over.op_type) != ("Sub", "Div"):
            continue
        mean, std = constants.get(minus.input[1]), constants.get(over.input[1])
        if (
            mean is None
            or std is None
            or np.ptp(mean)
            or np.ptp(std)
            or mean.flat[0] not in range(LEVELS + 1)
        ):
            continue
        units = [
            _constant(graph, "pixel_scale", np.array(1 / std.flat[0], np.float32)),
            _constant(graph, "pixel_zero", np.array(mean.flat[0], np.uint8)),
        ]
        joined = helper.make_node(
            "DequantizeLinear", [cast.input[0], *units], list(over.output), name="pixels"
        )
        cast.CopyFrom(joined)
        graph.node.remove(minus)
        graph.node.remove(over)
        return


def _drop_unused(model: onnx.ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    kept = [TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _correct_biases(
    narrow: onnx.ModelProto, source: _Float, pixels: Pixels, input_name: str, tell: Tell | None
) -> None:
    """From the first convolution to the last: add to the bias what its channels lack on average, in place.

    One after the other, because each correction changes the inputs of those that follow.
    """
    names = [node.output[0] for node in source.quantised]
    means = _channel_means(_session(source.model, names), pixels, input_name)
    tensors = {tensor.name: tensor for tensor in narrow.graph.initializer}
    for done, (name, wanted) in enumerate(zip(names, means, strict=True)):
        if tell is not None:
            tell(done / len(names))
        session = _session(narrow, [name], as_written=True)
        lacks = wanted - _channel_means(session, pixels, input_name)[0]
        bias = tensors[f"{name}_bias_narrow"]
        units = numpy_helper.to_array(tensors[f"{name}_bias_scale"])
        corrected = np.rint(numpy_helper.to_array(bias) + lacks / units).clip(-_LARGEST_BIAS, _LARGEST_BIAS)
        bias.CopyFrom(numpy_helper.from_array(corrected.astype(np.int32), bias.name))


def _channel_means(session: Any, pixels: Pixels, input_name: str) -> list[NDArray[np.float64]]:
    """Mean of each output's channels over images and places, each (channels,)."""
    sums: list[Any] = [0.0] * len(session.get_outputs())
    for batch in _batches(pixels):
        for place, values in enumerate(session.run(None, {input_name: batch})):
            sums[place] += values.mean(axis=(2, 3), dtype=np.float64).sum(axis=0)
    return [total / len(pixels) for total in sums]
