"""The policy of HEADSTART_DEVICE in one process: which provider runs a graph, or why none does."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from service.devices.bound import BoundSession
from service.devices.buckets import Buckets
from service.devices.providers import (
    CUDA,
    TENSORRT,
    GpuOptions,
    cuda_options,
    gpu_count,
    gpu_runtime,
    tensorrt_options,
)
from service.devices.sessions import CPU, CpuSession, Graph, Session, cpu_runtime
from training.errors import DeviceError

logger = logging.getLogger("headstart.devices")

DEFAULT_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
# A core gains nothing from a larger batch, and its warm-up would take long.
CPU_LARGEST = 8


@dataclass(frozen=True)
class LocalDevice:
    """The device of this process.

    Parameters
    ----------
    name : "cpu", "cuda" and "tensorrt" (refuse without it), or "auto" (cuda where it works, else cpu, which
        is logged).
    gpu : how a GPU is used.
    batch_sizes : fixed batch sizes of a GPU.
    is_batched : whether a CPU, too, has these batch sizes: in a process that all others send their images to.
    """

    name: str = "cpu"
    gpu: GpuOptions = field(default_factory=GpuOptions)
    batch_sizes: tuple[int, ...] = DEFAULT_BATCH_SIZES
    is_batched: bool = False

    @property
    def kind(self) -> Literal["cpu", "gpu"]:
        if self.name == "auto":
            try:
                gpu_count()
            except DeviceError:
                return "cpu"
        return "cpu" if self.name == "cpu" else "gpu"

    def open(self, graph: Graph) -> Session:
        """Open a graph as `name` says.

        Raises
        ------
        DeviceError
            The GPU that was asked for cannot be used.
        """
        if self.name == "auto":
            return self._first_that_opens(graph)
        opening: dict[str, Callable[[Graph], Session]] = {
            "cpu": self._on_cpu,
            "cuda": self._on_cuda,
            "tensorrt": self._on_tensorrt,
        }
        return opening[self.name](graph)

    def _first_that_opens(self, graph: Graph) -> Session:
        try:
            return self._on_cuda(graph)
        except DeviceError as error:
            logger.warning("HEADSTART_DEVICE=auto: running on the CPU: %s", error)
            return self._on_cpu(graph)

    def _on_cpu(self, graph: Graph) -> Session:
        runtime = cpu_runtime(graph)
        if self.is_batched:
            sizes = tuple(size for size in self.batch_sizes if size <= CPU_LARGEST)
            return BoundSession(graph, runtime, CPU, Buckets(sizes or self.batch_sizes[:1]))
        return CpuSession(graph, runtime)

    def _on_cuda(self, graph: Graph) -> Session:
        gpu, buckets = self.gpu, Buckets(self.batch_sizes)
        if gpu.is_captured:
            try:
                runtime = gpu_runtime(graph, [(CUDA, cuda_options(gpu))])
                return BoundSession(graph, runtime, CUDA, buckets, is_captured=True)
            except DeviceError as error:
                # A graph with a node that only the CPU has cannot be captured.
                logger.warning("%s: trying without CUDA graphs: %s", graph.path.name, error)
                gpu = replace(gpu, is_captured=False)
        return BoundSession(graph, gpu_runtime(graph, [(CUDA, cuda_options(gpu))]), CUDA, buckets)

    def _on_tensorrt(self, graph: Graph) -> Session:
        shape = cpu_runtime(graph).get_inputs()[0].shape[1:]
        options = tensorrt_options(graph, self.gpu, shape, self.batch_sizes)
        if folder := options.get("trt_engine_cache_path"):
            Path(folder).mkdir(parents=True, exist_ok=True)
        beside = cuda_options(replace(self.gpu, is_captured=False))
        runtime = gpu_runtime(graph, [(TENSORRT, options), (CUDA, beside)])
        return BoundSession(graph, runtime, TENSORRT, Buckets(self.batch_sizes))
