"""A float graph -> the same graph in float16, with float32 rows. Knows ONNX; knows no extractor folder."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.errors import ExportError

_LARGEST = float(np.finfo(np.float16).max)


def halve_graph(model: bytes) -> bytes:
    """Make all floats of a model 16 bits wide, but for its outputs.

    Where a device has no float16 kernel, onnxruntime casts around the step.

    Raises
    ------
    ExportError
        A constant is too large for float16.
    """
    half = onnx.load_model_from_string(model)
    graph = half.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        _halve(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            if attribute.HasField("t"):
                _halve(attribute.t)
    outputs = {value.name for value in graph.output if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name in outputs:
                    names[place] = f"{name}_half"
    graph.node.extend(
        helper.make_node("Cast", [f"{name}_half"], [name], name=f"{name}_cast", to=TensorProto.FLOAT)
        for name in sorted(outputs)
    )
    return bytes(half.SerializeToString(deterministic=True))


def _halve(tensor: onnx.TensorProto) -> None:
    """A float tensor as float16, in place; others stay. What is too near to zero for float16 becomes 0."""
    if tensor.data_type != TensorProto.FLOAT:
        return
    values = numpy_helper.to_array(tensor)
    # Bounds that mean "none" may be infinite, or as large as a float can be.
    if np.abs(values[np.isfinite(values)]).max(initial=0) > _LARGEST and values.size > 1:
        raise ExportError(f"the constant {tensor.name} has values too large for float16")
    halves = np.clip(values, -_LARGEST, _LARGEST).astype(np.float16)
    tensor.CopyFrom(numpy_helper.from_array(halves, tensor.name))
