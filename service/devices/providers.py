"""onnxruntime's providers for a GPU: their options, and the refusal where one cannot be used.

Knows no batch and no process. The options are those of onnxruntime's documentation of its CUDA and TensorRT
execution providers.
"""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.devices.sessions import CPU, ONNXRUNTIME_ERRORS_ONLY, Graph
from training.errors import DeviceError
from training.runtime import RUNTIME_ERRORS
from training.runtime import onnxruntime as ort

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

Options = Mapping[str, str]

ADVICE = {
    CUDA: "install the gpu extra (requirements/gpu.txt) and an NVIDIA driver, or set HEADSTART_DEVICE=cpu",
    TENSORRT: "install TensorRT (docs/guide/gpu.md), or set HEADSTART_DEVICE=cuda",
}


@dataclass(frozen=True)
class GpuOptions:
    """How a GPU is used.

    Attributes
    ----------
    memory_bytes : most memory of onnxruntime's arena, each loaded graph; 0: no ceiling. CUDA's own context
        and its libraries come on top.
    is_captured : whether batches of a fixed size may become CUDA graphs.
    engines : folder in which TensorRT keeps what it has built.
    """

    memory_bytes: int = 0
    is_captured: bool = False
    engines: Path | None = None


def gpu_count() -> int:
    """How many GPUs the driver shows this process (CUDA_VISIBLE_DEVICES narrows them).

    Raises
    ------
    DeviceError
        None can be used here; the message says why.
    """
    if CUDA not in ort.get_available_providers():
        raise DeviceError(f"this onnxruntime was built without {CUDA}; {ADVICE[CUDA]}")
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DeviceError(f"no NVIDIA driver ({error}); {ADVICE[CUDA]}") from error
    count = ctypes.c_int(0)
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        raise DeviceError(f"the NVIDIA driver shows no GPU (its code: {code}); {ADVICE[CUDA]}")
    return count.value


def cuda_options(gpu: GpuOptions) -> dict[str, str]:
    """Options of the CUDA provider.

    The arena grows by what is asked for and no more: the shapes are few, and are all seen in the warm-up. An
    exhaustive search for the fastest convolution needs memory that the arena's ceiling does not bound, so
    that it is left out under one. TF32 is off: rows of one digest are the same rows on every device, and fp16
    is there for those who want speed instead.
    """
    options = {
        "device_id": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC" if gpu.memory_bytes else "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "0" if gpu.memory_bytes else "1",
        "use_tf32": "0",
        "enable_cuda_graph": "1" if gpu.is_captured else "0",
    }
    return options | ({"gpu_mem_limit": str(gpu.memory_bytes)} if gpu.memory_bytes else {})


def tensorrt_options(
    graph: Graph, gpu: GpuOptions, image_shape: Sequence[int], batch_sizes: Sequence[int]
) -> dict[str, str]:
    """Options of the TensorRT provider.

    The range of shapes is told before the first batch: without, each new shape builds the engine anew, for
    minutes. Engines are kept for the graph and this onnxruntime; the files' names carry the GPU.
    """
    shape = "x".join(map(str, image_shape))
    sizes = {"min": batch_sizes[0], "opt": batch_sizes[-1], "max": batch_sizes[-1]}
    options = {
        f"trt_profile_{name}_shapes": f"{graph.input_name}:{size}x{shape}" for name, size in sizes.items()
    }
    options |= {"device_id": "0", "trt_fp16_enable": "0"}
    if gpu.memory_bytes:
        options["trt_max_workspace_size"] = str(gpu.memory_bytes)
    if gpu.engines:
        folder = str(gpu.engines / ort.__version__ / graph.sha256)
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": folder,
        }
    return options


def gpu_runtime(graph: Graph, providers: Sequence[tuple[str, Options]]) -> ort.InferenceSession:
    """onnxruntime's session with the first of some providers, the others for what it cannot do.

    onnxruntime falls back to the CPU with a log line; who asked for a GPU gets an error instead.

    Raises
    ------
    DeviceError
        The first provider cannot be used; the message says what to install.
    """
    wanted = providers[0][0]
    gpu_count()
    if wanted not in ort.get_available_providers():
        raise DeviceError(f"this onnxruntime was built without {wanted}; {ADVICE[wanted]}")
    ort.preload_dlls()
    options = ort.SessionOptions()
    options.log_severity_level = ONNXRUNTIME_ERRORS_ONLY
    try:
        session = ort.InferenceSession(graph.path, options, providers=[*providers, CPU])
    except RUNTIME_ERRORS as error:
        raise DeviceError(f"onnxruntime could not open {graph.path.name} with {wanted}: {error}") from error
    if wanted not in session.get_providers():
        raise DeviceError(f"onnxruntime could not start its {wanted} (its log says why); {ADVICE[wanted]}")
    return session
