"""Devices that extractors run on: cores and GPUs of this process, and processes that own one each.

`LocalDevice` is the policy of HEADSTART_DEVICE. `DeviceProcess` is a process that owns a device and forms
batches of what all API processes send it; `RemoteDevice` is how these reach it, `Supervisor` who starts it.
"""

from service.devices.local import DEFAULT_BATCH_SIZES, LocalDevice

__all__ = ["DEFAULT_BATCH_SIZES", "LocalDevice"]
