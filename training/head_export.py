"""A head, alone or behind its extractor, as one ONNX file that any onnxruntime runs.

Knows the two files and the text in them. Writes nothing to disk, and needs no torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import onnx
from onnx import TensorProto, compose, helper

from training.errors import ExportError, ExtractorMismatchError
from training.head_graph import GraphParts, add_head, columns
from training.heads import Head
from training.heads.layers import Layer, layers_of, side_by_side
from training.manifest import TAPS_OUTPUT, Manifest

OPSET = 18  # the extractors'; every onnxruntime since 1.14 runs it
IR_VERSION = 8  # the first that knows this opset
MAX_TOP = 5
EXTRACTOR_PREFIX = "extractor/"
EMBEDDING, TOP_INDEX, TOP_PROBABILITY = "embedding", "labels_index", "top_probabilities"


def head_onnx(head: Head, *, name: str, version: int) -> bytes:
    """A head as an ONNX model from `embedding` (n, dim) float32 to the outputs of `add_head`.

    The input of a head of several layers are these side by side, in the order of the row. The same head, name
    and version always give the same bytes.

    Parameters
    ----------
    name, version : what the head is called where it comes from; kept in the model's metadata
    """
    parts = GraphParts()
    layers = side_by_side(head.layers)
    alone = len(layers) == 1
    add_head(
        parts,
        head,
        [EMBEDDING if alone else columns(parts, EMBEDDING, layer.start, layer.stop) for layer in layers],
    )
    embedding = helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ("batch", head.dim))
    graph = helper.make_graph(parts.nodes, "head", [embedding], parts.outputs, parts.constants)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="headstart")
    return _sealed(model, _about(head, name, version))


def fused_onnx(
    extractor: bytes,
    manifest: Manifest,
    head: Head,
    *,
    name: str,
    version: int,
    extractor_digest: str | None = None,
) -> bytes:
    """An extractor and a head as one ONNX model, from pixels to answers.

    Input: the extractor's, uint8 pixels. Outputs: those of `add_head`, and the most probable classes, the
    best first: `labels_index` (n, t) int64 and `top_probabilities` (n, t) float32, t = 5 at most. How an
    image becomes pixels is in the metadata, under `preprocess`.

    Parameters
    ----------
    extractor : the extractor's ONNX model
    manifest : what the extractor is
    name, version : as in `head_onnx`
    extractor_digest : of the variant that the model is; None: it is the extractor itself

    Raises
    ------
    ExtractorMismatchError
        If the head is of another extractor.
    ExportError
        If the extractor's model has an opset below 18.
    """
    digest = extractor_digest or manifest.digest
    known = head.extractor_digest == digest
    if not known or not set(head.layers) <= set(layers_of(manifest.layer_dims)):
        raise ExtractorMismatchError(
            f"the head is of extractor {head.extractor_digest}, the graph of {digest}"
        )
    model = onnx.load_from_string(extractor)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < OPSET:
        raise ExportError(f"the extractor's model has opset {opset}, expected {OPSET} at least")
    compose.add_prefix(model, EXTRACTOR_PREFIX, rename_inputs=False, inplace=True)
    parts = GraphParts()
    probabilities = add_head(parts, head, [_output(parts, manifest, layer) for layer in head.layers])
    _add_top(parts, probabilities, min(MAX_TOP, len(head.classes)))
    graph = model.graph
    del graph.output[:]
    graph.node.extend(parts.nodes)
    graph.initializer.extend(parts.constants)
    graph.output.extend(parts.outputs)
    preprocess = {"preprocess": json.dumps(asdict(manifest.preprocess))}
    return _sealed(model, {**_about(head, name, version), "extractor": manifest.name, **preprocess})


def _output(parts: GraphParts, manifest: Manifest, layer: Layer) -> str:
    """The name of a layer's values in the extractor's graph."""
    start = manifest.output.dim  # of the taps, in a row
    if layer.name == EMBEDDING:
        return EXTRACTOR_PREFIX + manifest.output.name
    return columns(parts, EXTRACTOR_PREFIX + TAPS_OUTPUT, layer.start - start, layer.stop - start)


def _add_top(parts: GraphParts, probabilities: str, count: int) -> None:
    best, index = "head/top_probabilities", "head/top_index"
    parts.nodes.append(
        helper.make_node("TopK", [probabilities, parts.constant([count], np.int64)], [best, index], name=best)
    )
    parts.output(TOP_INDEX, index, TensorProto.INT64, ("batch", count))
    parts.output(TOP_PROBABILITY, best, TensorProto.FLOAT, ("batch", count))


def _about(head: Head, name: str, version: int) -> dict[str, str]:
    return {
        "classes": json.dumps(head.classes),
        "task": head.task,
        "layers": json.dumps([{"name": layer.name, "dim": layer.dim} for layer in head.layers]),
        "extractor_digest": head.extractor_digest,
        "head": name,
        "version": str(version),
        "library_version": head.library_version,
        "unknown_threshold": repr(head.unknown_threshold),
    }


def _sealed(model: onnx.ModelProto, about: Mapping[str, str]) -> bytes:
    helper.set_model_props(model, dict(about))
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except ValueError as error:  # protobuf's limit of 2 GiB
        raise ExportError(f"the model cannot be written as one file: {error}") from error
