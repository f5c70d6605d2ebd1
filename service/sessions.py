"""Sessions of onnxruntime: a graph on a device, from pixels to rows.

Knows the device policy (cpu, cuda, auto) and how a batch is run. Knows no extractor: neither what its rows
mean nor whether they are the right ones.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from training.errors import DeviceError
from training.runtime import onnxruntime as ort

logger = logging.getLogger("headstart.sessions")

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

# Single-threaded sessions at batch 1 do the most work per core on CPU; a GPU needs batches to be busy.
CPU_BATCH_SIZE = 1
CUDA_BATCH_SIZE = 32

ONNXRUNTIME_ERRORS_ONLY = 3

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Graph:
    """An ONNX file of an extractor.

    Attributes
    ----------
    path : the file.
    input_name : of the pixels, uint8 (n, height, width, 3).
    output_names : of the parts of a row, each (n, length), in the order of a row.
    """

    path: Path
    input_name: str
    output_names: tuple[str, ...]


class Session(Protocol):
    """A graph that runs. `run` may be called from many threads at once."""

    @property
    def provider(self) -> str:
        """What onnxruntime calls the device."""

    @property
    def batch_size(self) -> int:
        """How many images at once make good use of the device."""

    def run(self, images: Pixels) -> Rows:
        """Pixels (n, height, width, 3) to rows (n, width)."""


@dataclass(frozen=True)
class LocalSession:
    """A session in this process, with any number of images at once."""

    graph: Graph
    session: ort.InferenceSession
    provider: str
    batch_size: int

    def run(self, images: Pixels) -> Rows:
        outputs = self.session.run(list(self.graph.output_names), {self.graph.input_name: images})
        rows: Rows = np.concatenate(outputs, axis=1) if len(outputs) > 1 else outputs[0]
        return rows


def open_session(graph: Graph, device: str) -> Session:
    """Open a graph on a device.

    Parameters
    ----------
    device : "cpu", "cuda" (refuses without it) or "auto" (cuda where it works, else cpu, which is logged).

    Raises
    ------
    DeviceError
        "cuda" was asked for and cannot be used.
    """
    if device == "cpu":
        return _cpu_session(graph)
    try:
        return _cuda_session(graph)
    except DeviceError as error:
        if device == "cuda":
            raise
        logger.warning("HEADSTART_DEVICE=auto: running on the CPU: %s", error)
        return _cpu_session(graph)


def _cpu_session(graph: Graph) -> LocalSession:
    options = ort.SessionOptions()
    options.log_severity_level = ONNXRUNTIME_ERRORS_ONLY
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(graph.path, options, providers=[CPU])
    return LocalSession(graph, session, CPU, CPU_BATCH_SIZE)


def _cuda_session(graph: Graph) -> LocalSession:
    """onnxruntime falls back to the CPU with a log line; a user who asked for CUDA gets an error instead."""
    advice = "install the gpu extra (requirements/gpu.txt) and an NVIDIA driver, or set HEADSTART_DEVICE=cpu"
    if CUDA not in ort.get_available_providers():
        raise DeviceError(f"this onnxruntime was built without CUDA; {advice}")
    ort.preload_dlls()
    options = ort.SessionOptions()
    options.log_severity_level = ONNXRUNTIME_ERRORS_ONLY
    session = ort.InferenceSession(graph.path, options, providers=[CUDA, CPU])
    if CUDA not in session.get_providers():
        raise DeviceError(f"onnxruntime could not start its CUDA provider (its log says why); {advice}")
    return LocalSession(graph, session, CUDA, CUDA_BATCH_SIZE)
