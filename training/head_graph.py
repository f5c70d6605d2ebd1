"""A head -> nodes of an ONNX graph that answers as the head does, in float32 throughout.

Knows ONNX's operators. Knows neither the extractor's graph nor what is written around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.heads import Head
from training.heads.head import SURELY_NONE
from training.heads.typicality import SMALLEST_DISTANCE

PREFIX = "head/"  # of every name inside, so that none is one of the extractor's
PROBABILITIES, TYPICALITY, UNKNOWN, NONE = "probabilities", "typicality", "unknown", "none_probability"
LAST = -1


@dataclass
class GraphParts:
    """Nodes, constants and outputs of a graph in the making."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node of one output; the name of that output."""
        name = f"{PREFIX}{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: object, dtype: npt.DTypeLike = np.float32) -> str:
        """Append a constant; its name."""
        name = f"{PREFIX}constant_{len(self.constants)}"
        # ascontiguousarray would make a vector of a scalar.
        array = np.array(value, dtype=dtype, order="C")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def output(self, name: str, value: str, kind: int, shape: tuple[str | int, ...]) -> None:
        """Give a value its name outside."""
        self.nodes.append(helper.make_node("Identity", [value], [name], name=f"{PREFIX}output_{name}"))
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))


def add_head(parts: GraphParts, head: Head, layers: Sequence[str]) -> str:
    """Append what a head computes, with its outputs.

    Outputs, for n rows: `probabilities` (n, k) and `typicality` (n,) float32, `unknown`
    (n,) bool, and `none_probability` (n,) float32 of a head that was shown negatives.

    Parameters
    ----------
    layers : name of the values of each of its layers, (n, dim of the layer) float32

    Returns
    -------
    Name of the probabilities.
    """
    feature = _features(parts, head.transform, layers)
    plain = parts.add("MatMul", feature, parts.constant(head.weights.T))
    typicality = _typicality(parts, head, feature, plain)
    unknown = parts.add("Less", typicality, parts.constant(head.unknown_threshold))
    probabilities, none = _probabilities(parts, head, plain)
    if none is not None:
        likely = parts.add("Greater", none, parts.constant(SURELY_NONE))
        unknown = parts.add("Or", unknown, likely)
    parts.output(PROBABILITIES, probabilities, TensorProto.FLOAT, ("batch", len(head.classes)))
    parts.output(TYPICALITY, typicality, TensorProto.FLOAT, ("batch",))
    parts.output(UNKNOWN, unknown, TensorProto.BOOL, ("batch",))
    if none is not None:
        parts.output(NONE, none, TensorProto.FLOAT, ("batch",))
    return probabilities


def columns(parts: GraphParts, value: str, start: int, stop: int) -> str:
    """Append the columns `start` to `stop` of a value (n, d); their name."""
    ends = (parts.constant([end], np.int64) for end in (start, stop))
    return parts.add("Slice", value, *ends, parts.constant([1], np.int64))


def _features(parts: GraphParts, transform: str, layers: Sequence[str]) -> str:
    """Features of all layers, of unit length (n, d); see `layer_features`."""
    features = [_feature(parts, transform, layer) for layer in layers]
    if len(features) == 1:
        return features[0]
    joined = parts.add("Concat", *features, axis=LAST)
    return parts.add("Mul", joined, parts.constant(1 / sqrt(len(features))))


def _feature(parts: GraphParts, transform: str, embedding: str) -> str:
    """Features of unit length (n, d); see `transform_features`."""
    axis, zero, one = parts.constant([LAST], np.int64), parts.constant(0), parts.constant(1)
    # Squares would overflow or vanish: each row is divided by its largest value first.
    peak = parts.add("ReduceMax", parts.add("Abs", embedding), axis)
    scaled = parts.add("Div", embedding, parts.add("Where", parts.add("Greater", peak, zero), peak, one))
    magnitude = parts.add("Abs", scaled)
    if transform == "l2":
        square, feature = parts.add("Mul", scaled, scaled), scaled
    else:
        square = magnitude
        feature = parts.add("Mul", parts.add("Sign", scaled), parts.add("Sqrt", magnitude))
    length = parts.add("Sqrt", parts.add("ReduceSum", square, axis))
    known = parts.add("Where", parts.add("Greater", length, zero), length, one)
    return parts.add("Div", feature, known)


def _probabilities(parts: GraphParts, head: Head, plain: str) -> tuple[str, str | None]:
    """Probabilities of the classes (n, k), and of "none of these" (n,) if the head has negatives."""
    slope, offset = head.calibration.slope, head.calibration.offset
    scaled = parts.add("Mul", plain, parts.constant(slope))
    logits = parts.add("Add", scaled, parts.constant(slope * head.bias + offset))
    if not head.calibration.softmax:
        return parts.add("Sigmoid", logits), None
    if not head.negatives:
        return parts.add("Softmax", logits, axis=LAST), None
    column, axis = parts.constant(LAST, np.int64), parts.constant([LAST], np.int64)
    none = parts.add("Gather", parts.add("Softmax", logits, axis=LAST), column, axis=1)
    # A softmax of the classes alone is that of all columns, divided by what is left to the classes.
    of_classes = parts.add("Slice", logits, parts.constant([0], np.int64), axis, axis)
    return parts.add("Softmax", of_classes, axis=LAST), none


def _typicality(parts: GraphParts, head: Head, feature: str, plain: str) -> str:
    """Typicality (n,); see `Typicality.score`."""
    curve = head.typicality
    centered = parts.add("Sub", feature, parts.constant(curve.mean))
    distance = _squares(parts, centered)
    if len(curve.directions):
        along = parts.add("MatMul", centered, parts.constant(curve.directions.T))
        distance = parts.add("Sub", distance, _squares(parts, along))
    if curve.basis.shape[1]:
        inside = parts.add("MatMul", plain, parts.constant(curve.basis))
        if len(curve.centers):
            gaps = parts.add("MatMul", inside, parts.constant(curve.gap_slopes))
            gaps = parts.add("Add", gaps, parts.constant(curve.gap_offsets))
            axis = parts.constant([LAST], np.int64)
            distance = parts.add("Add", distance, parts.add("ReduceMin", gaps, axis, keepdims=0))
        else:
            offsets = parts.add("Sub", inside, parts.constant(curve.origin))
            distance = parts.add("Sub", distance, _squares(parts, offsets))
    return _interpolated(parts, head, distance)


def _squares(parts: GraphParts, vectors: str) -> str:
    axis = parts.constant([LAST], np.int64)
    return parts.add("ReduceSum", parts.add("Mul", vectors, vectors), axis, keepdims=0)


def _interpolated(parts: GraphParts, head: Head, distance: str) -> str:
    """The curve between its two nearest knots, at the logarithms of squared distances (n,)."""
    low, high = head.typicality.log_range.tolist()
    last = len(head.typicality.values) - 1
    logs = parts.add("Log", parts.add("Max", distance, parts.constant(SMALLEST_DISTANCE)))
    steps = parts.add("Mul", parts.add("Sub", logs, parts.constant(low)), parts.constant(last / (high - low)))
    at = parts.add("Clip", steps, parts.constant(0), parts.constant(last))
    below = parts.add("Min", parts.add("Floor", at), parts.constant(last - 1))
    share = parts.add("Sub", at, below)
    index = parts.add("Cast", below, to=TensorProto.INT64)
    values = parts.constant(head.typicality.values)
    first = parts.add("Gather", values, index)
    second = parts.add("Gather", values, parts.add("Add", index, parts.constant(1, np.int64)))
    return parts.add("Add", first, parts.add("Mul", share, parts.add("Sub", second, first)))
