"""A session with fixed batch sizes and buffers that stay where they are on the device.

Every size is run before the session is handed out, so that nobody waits for memory, the search for the
fastest convolution or the capture of a CUDA graph. Everything runs on one thread: a captured graph is only to
be used from one (microsoft/onnxruntime#18509). The same code runs on the CPU. Knows no policy: neither which
device nor which images go together.
"""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.devices.buckets import Buckets, BucketTimes
from service.devices.providers import CUDA
from service.devices.sessions import CPU, Graph, Pixels, Rows
from training.errors import DeviceError
from training.runtime import RUNTIME_ERRORS
from training.runtime import onnxruntime as ort

logger = logging.getLogger("headstart.devices")

# The first run allocates, the second may, the third is captured (microsoft/onnxruntime#17355).
UNMEASURED_RUNS = 3
MEASURED_RUNS = 5
CPU_RUNS = (1, 2)
NOT_CAPTURED = -1  # onnxruntime's name for "run this one as usual"
WORTH_CAPTURING = 0.95  # of the time of a usual run
ELEMENT_TYPES: Mapping[str, Any] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclass
class _Bucket:
    """The buffers of one batch size."""

    size: int
    pixels: Pixels  # on the host
    given: ort.OrtValue  # on the device
    parts: list[ort.OrtValue]  # of a row, on the device
    binding: ort.IOBinding
    graph_id: int = NOT_CAPTURED


class BoundSession:
    """A graph with fixed batch sizes; a smaller batch is filled up and its result cut.

    Parameters
    ----------
    runtime : onnxruntime's session.
    provider : what it runs on.
    buckets : the batch sizes.
    is_captured : whether the session may capture CUDA graphs. One is used where it is faster than without.

    Raises
    ------
    DeviceError
        The warm-up fails.
    """

    def __init__(
        self,
        graph: Graph,
        runtime: ort.InferenceSession,
        provider: str,
        buckets: Buckets,
        *,
        is_captured: bool = False,
    ) -> None:
        self.graph = graph
        self.provider = provider
        self.buckets = buckets
        self.batch_size = buckets.largest
        self._runtime = runtime
        self._place = ("cpu" if provider == CPU else "cuda", 0)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        shapes = {value.name: value.shape[1:] for value in runtime.get_inputs()}
        self.image_shape: tuple[int, ...] = tuple(shapes[graph.input_name])
        self._outputs = [value for value in runtime.get_outputs() if value.name in graph.output_names]
        self._outputs.sort(key=lambda value: graph.output_names.index(value.name))
        self.width: int = sum(value.shape[1] for value in self._outputs)
        try:
            self.times = self._thread.submit(self._warm_up, is_captured).result()
        except BaseException:
            self.close()
            raise

    def run(self, images: Pixels, *, within_s: float = float("inf")) -> Rows:
        found, start = [], 0
        for count in self.buckets.parts(len(images)):
            batch = np.zeros((self.buckets.over(count), *self.image_shape), np.uint8)
            batch[:count] = images[start : start + count]
            found.append(self.start(batch, count).result())
            start += count
        return np.concatenate(found) if len(found) > 1 else found[0]

    def start(self, batch: Pixels, count: int) -> "Future[Rows]":
        """Run a batch that is filled up already; at most a few may be under way.

        Parameters
        ----------
        batch : (a batch size, height, width, 3); not to be written to before the result is there.
        count : how many of its images are meant.

        Returns
        -------
        Future of the rows (count, width), or of a DeviceError.

        Raises
        ------
        DeviceError
            The session is closed.
        """
        try:
            return self._thread.submit(self._run, batch, count)
        except RuntimeError as error:
            raise DeviceError(f"the session on {self.provider} is closed") from error

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _run(self, batch: Pixels, count: int) -> Rows:
        bucket = self._bound[len(batch)]
        try:
            return self._run_bound(bucket, batch)[:count]
        except RUNTIME_ERRORS as error:
            raise DeviceError(f"{self.provider} failed on a batch of {bucket.size}: {error}") from error

    def _run_bound(self, bucket: _Bucket, batch: Pixels) -> Rows:
        if self._place[0] == "cpu":
            bucket.pixels[:] = batch  # the buffer of the host is that of the device
        else:
            bucket.given.update_inplace(batch)
        options = ort.RunOptions()
        if self.provider == CUDA:
            options.add_run_config_entry("gpu_graph_id", str(bucket.graph_id))
        self._runtime.run_with_iobinding(bucket.binding, options)
        bucket.binding.synchronize_outputs()
        parts = [part.numpy() for part in bucket.parts]
        # A copy in any case: the next batch overwrites the buffers.
        rows: npt.NDArray[Any] = np.concatenate(parts, axis=1)
        return rows.astype(np.float32, copy=False)

    def _warm_up(self, is_captured: bool) -> BucketTimes:
        self._bound = {size: self._bind(size) for size in self.buckets.sizes}
        # The largest first, so that the memory of the smaller ones is found inside of its.
        buckets = sorted(self._bound.values(), key=lambda bucket: -bucket.size)
        seconds = {bucket.size: self._measure(bucket) for bucket in buckets}
        for bucket in buckets if is_captured else ():
            seconds[bucket.size] = self._capture(bucket, seconds[bucket.size])
        logger.info("%s", _told(self.provider, self._bound, seconds))
        return BucketTimes(self.buckets, seconds)

    def _bind(self, size: int) -> _Bucket:
        pixels = np.zeros((size, *self.image_shape), np.uint8)
        given = ort.OrtValue.ortvalue_from_numpy(pixels, *self._place)
        binding = self._runtime.io_binding()
        binding.bind_ortvalue_input(self.graph.input_name, given)
        parts = []
        for output in self._outputs:
            shape, kind = [size, output.shape[1]], ELEMENT_TYPES[output.type]
            parts.append(ort.OrtValue.ortvalue_from_shape_and_type(shape, kind, *self._place))
            binding.bind_ortvalue_output(output.name, parts[-1])
        return _Bucket(size, pixels, given, parts, binding)

    def _capture(self, bucket: _Bucket, usual_s: float) -> float:
        """Capture a CUDA graph and keep it if it is faster; how long a batch takes then."""
        bucket.graph_id = bucket.size
        try:
            captured_s = self._measure(bucket)
        except DeviceError as error:
            logger.warning("batches of %d run without a CUDA graph: %s", bucket.size, error)
            captured_s = usual_s
        if captured_s > WORTH_CAPTURING * usual_s:
            bucket.graph_id = NOT_CAPTURED
            return usual_s
        return captured_s

    def _measure(self, bucket: _Bucket) -> float:
        """Least time of a batch, in seconds, after those that prepare; others may use the machine, too."""
        batch, seconds = np.zeros_like(bucket.pixels), []
        runs = CPU_RUNS if self.provider == CPU else (UNMEASURED_RUNS, MEASURED_RUNS)
        for _ in range(sum(runs)):
            start = time.perf_counter()
            self._run(batch, bucket.size)
            seconds.append(time.perf_counter() - start)
        return min(seconds[runs[0] :])


def _told(provider: str, bound: Mapping[int, _Bucket], seconds: Mapping[int, float]) -> str:
    """What a warm-up found, for the log."""

    def item(size: int) -> str:
        captured = "" if bound[size].graph_id == NOT_CAPTURED else ", CUDA graph"
        return f"{size} ({seconds[size] * 1000:.2f} ms{captured})"

    return f"{provider}: batch sizes " + ", ".join(item(size) for size in sorted(bound))
