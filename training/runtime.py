"""onnxruntime, imported here and nowhere else: with its telemetry off.

Its builds report usage to their maker over HTTPS from the moment they are imported, and keep a device id in
the user's cache folder. Only the environment variable, set before the import, prevents both; the function of
the library that is named for it comes too late. Who wants to report sets ORT_DISABLE_TELEMETRY=0.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
