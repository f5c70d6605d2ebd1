"""From settings to devices: which one a process opens, and whether processes of their own are to own them."""

import logging
import os
from collections.abc import Mapping
from dataclasses import fields, replace

from service.config import PREFIX, Settings
from service.devices.local import LocalDevice
from service.devices.providers import GpuOptions, gpu_count
from training.errors import DeviceError

logger = logging.getLogger("headstart.devices")

VISIBLE = "CUDA_VISIBLE_DEVICES"


def device_of(settings: Settings, *, is_batched: bool = False) -> LocalDevice:
    """The device of this process.

    Parameters
    ----------
    is_batched : whether it is the process that others send their images to. Only there CUDA graphs pay.
    """
    gpu = GpuOptions(
        memory_bytes=settings.gpu_memory_bytes,
        is_captured=is_batched and settings.cuda_graphs,
        engines=settings.home.absolute() / "cache" / "tensorrt",
    )
    return LocalDevice(settings.device, gpu, settings.batch_sizes, is_batched)


def processes_of(settings: Settings, environ: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """The processes that are to own a device each, as what their environment says beyond that of the parent.

    Returns
    -------
    list of environments; empty if every API process is to use the device itself.

    Raises
    ------
    DeviceError
        A GPU was asked for and there is none.
    """
    if settings.extractor_process == "never":
        return []
    if settings.device != "cpu":
        try:
            gpus = _gpus(os.environ if environ is None else environ)
        except DeviceError as error:
            if settings.device != "auto":
                raise
            logger.warning("HEADSTART_DEVICE=auto: running on the CPU: %s", error)
        else:
            # The parent of the process decides what else to do if this GPU cannot be used.
            sure = replace(settings, device="cuda" if settings.device == "auto" else settings.device)
            return [_changed(sure) | {VISIBLE: gpu} for gpu in gpus]
    return [_changed(replace(settings, device="cpu"))] if settings.extractor_process == "always" else []


def without_process(settings: Settings) -> Settings:
    """The settings of an API process of a server that has no process for its device.

    With `auto` the parent has found out that there is no GPU that could be used; no process tries again.
    """
    is_decided = settings.device == "auto" and settings.extractor_process != "never"
    return replace(settings, device="cpu") if is_decided else settings


def _gpus(environ: Mapping[str, str]) -> list[str]:
    """The GPUs of this machine, as CUDA_VISIBLE_DEVICES names them."""
    count = gpu_count()
    named = [name.strip() for name in environ.get(VISIBLE, "").split(",") if name.strip()]
    return named[:count] if named else [str(index) for index in range(count)]


def _changed(settings: Settings) -> dict[str, str]:
    """The settings that are not the default, as variables; without the extractors, which are told apart."""
    changed = {}
    for item in fields(settings):
        value = getattr(settings, item.name)
        if value != item.default and item.name != "extractors":
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            changed[PREFIX + item.name.upper()] = text
    return changed
