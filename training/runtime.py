"""onnxruntime, imported here and nowhere else: with its telemetry off.

Its builds report usage to their maker over HTTPS from the moment they are imported, and keep a device id in
the user's cache folder. Only the environment variable, set before the import, prevents both; the function of
the library that is named for it comes too late. Who wants to report sets ORT_DISABLE_TELEMETRY=0.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _binding

__all__ = ["RUNTIME_ERRORS", "onnxruntime"]

# What its calls raise; they have no base of their own, and a run with bindings raises a plain RuntimeError.
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    *(
        kind
        for kind in vars(_binding).values()
        if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception
    ),
)
