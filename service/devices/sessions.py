"""What a session is: a graph on a device, from pixels to rows. And the plain one, on one core.

Knows no extractor: neither what its rows mean nor whether they are the right ones. Other devices are
beside it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from training.errors import DeviceError
from training.runtime import onnxruntime as ort

CPU = "CPUExecutionProvider"
ONNXRUNTIME_ERRORS_ONLY = 3

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float32]


class DeviceBusyError(DeviceError):
    """The device did not get to a request while its answer was of use."""

    code = "device_busy"


@dataclass(frozen=True)
class Graph:
    """An ONNX file of an extractor.

    Attributes
    ----------
    path : the file.
    sha256 : of the file, in hexadecimal; who asked has verified it.
    input_name : of the pixels, uint8 (n, height, width, 3).
    output_names : of the parts of a row, each (n, length), in the order of a row.
    """

    path: Path
    sha256: str
    input_name: str
    output_names: tuple[str, ...]


class Session(Protocol):
    """A graph that runs. `run` may be called from many threads at once."""

    @property
    def provider(self) -> str:
        """What onnxruntime calls the device."""

    @property
    def batch_size(self) -> int:
        """How many images a caller with many should give at once."""

    def run(self, images: Pixels, *, within_s: float = float("inf")) -> Rows:
        """Pixels (n, height, width, 3) to rows (n, width), n >= 1.

        Parameters
        ----------
        within_s : how long the rows are of use, in seconds: a device with a queue leaves it at that.

        Raises
        ------
        DeviceBusyError
            `within_s` has passed.
        DeviceError
            The device cannot run it now.
        """

    def close(self) -> None:
        """Let go of the device. Nothing is run any more."""


class Device(Protocol):
    """Where graphs run."""

    @property
    def kind(self) -> Literal["cpu", "gpu"]:
        """What is fast on it: see HEADSTART_PRECISION."""

    def open(self, graph: Graph) -> Session:
        """Open a graph.

        Raises
        ------
        DeviceError
            The device is not there, or cannot run this graph.
        """


@dataclass(frozen=True)
class CpuSession:
    """A session on one core, with any number of images at once; one at a time does the most work per core."""

    graph: Graph
    session: ort.InferenceSession
    provider: str = CPU
    batch_size: int = 1

    def run(self, images: Pixels, *, within_s: float = float("inf")) -> Rows:
        outputs = self.session.run(list(self.graph.output_names), {self.graph.input_name: images})
        rows: Rows = np.concatenate(outputs, axis=1) if len(outputs) > 1 else outputs[0]
        return rows

    def close(self) -> None:
        """Nothing: onnxruntime lets go with the last reference."""


def cpu_runtime(graph: Graph) -> ort.InferenceSession:
    """onnxruntime's session on one core."""
    options = ort.SessionOptions()
    options.log_severity_level = ONNXRUNTIME_ERRORS_ONLY
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return ort.InferenceSession(graph.path, options, providers=[CPU])
