"""A backbone -> one ONNX graph that takes pixels as they are decoded.

Knows torch's exporter. Writes no file.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from training.backbones.backbone import Backbone
from training.backbones.taps import Tapped
from training.errors import ExportError
from training.manifest import EMBEDDING, TAPS_OUTPUT, Input, Output

# The exporter's own opset: no conversion, and every onnxruntime since 1.14 runs it.
OPSET = 18
# A traced batch of 1 would be taken for a constant.
_TRACED_BATCH = 2


class PixelsToRow(torch.nn.Module):
    """uint8 NHWC pixels -> embedding, and taps if there are any: cast, transpose, normalise, backbone."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        spec = backbone.preprocess
        self.points = backbone.taps
        self.layer_dims = {EMBEDDING: backbone.dim, **{point.name: point.dim for point in self.points}}
        self.backbone = Tapped(backbone.module, self.points) if self.points else backbone.module
        self.register_buffer("mean", torch.tensor(spec.mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).reshape(1, 3, 1, 1))
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        pixels = images.permute(0, 3, 1, 2).to(self.mean.dtype)
        outputs: torch.Tensor | tuple[torch.Tensor, torch.Tensor]
        outputs = self.backbone((pixels - self.mean) / self.std)
        return outputs

    def rows(self, images: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Rows (n, width) of pixels (n, height, width, 3), in the precision of the weights."""
        with torch.inference_mode():
            outputs = self(torch.from_numpy(images))
            row: NDArray[np.floating] = (torch.cat(outputs, dim=1) if self.points else outputs).numpy()
        return row


def export_graph(module: PixelsToRow, graph_input: Input, output: Output) -> bytes:
    """Trace `module` into a serialised ONNX model with a dynamic batch and all weights inside.

    The same module always gives the same bytes: what the exporter writes about the machine (file names,
    stack traces) is removed.
    """
    example = torch.zeros((_TRACED_BATCH, graph_input.height, graph_input.width, 3), dtype=torch.uint8)
    with _quiet_exporter(), torch.inference_mode():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[graph_input.name],
            output_names=[output.name, TAPS_OUTPUT] if module.points else [output.name],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ExportError("torch.onnx.export returned no program")
    model = program.model_proto
    _strip(model)
    return bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what torch's exporter remarks about itself; its errors still come through."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _strip(model: onnx.ModelProto) -> None:
    """Remove what tells one exporting machine from another, in place: stack traces with paths, the build."""
    graph = model.graph
    del model.metadata_props[:]
    model.producer_version = ""  # names the build of torch, such as +cpu
    for part in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        for node in function.node:
            node.doc_string = ""
            del node.metadata_props[:]
