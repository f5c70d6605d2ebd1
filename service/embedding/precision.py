"""Which precision an extractor is served in, and which one a digest names: the policy of HEADSTART_PRECISION.

Loads nothing but the records in an extractor folder.
"""

import logging
from pathlib import Path

from service.devices.sessions import Device
from training.errors import DeviceError, ManifestError
from training.manifest import Manifest
from training.variant import FLOAT, Variant, precisions_in

logger = logging.getLogger("headstart.precision")

AUTO = "auto"
# By the kind of the device. On the others these gain nothing, or onnxruntime has no kernels for them.
FAST = {"cpu": "int8", "gpu": "fp16"}


def chosen_precision(folder: Path, wanted: str, device: Device) -> str:
    """The precision in which an extractor serves new heads.

    Parameters
    ----------
    folder : an extractor folder.
    wanted : "fp32", "int8", "fp16", or "auto": that which is fast on the device, if the folder has it and its
        gate was passed, else fp32.

    Raises
    ------
    ManifestError
        What was asked for is not there, or a record cannot be used; the message says what to do.
    DeviceError
        int8 was asked for on a GPU, or the device cannot be reached.
    """
    if wanted == FLOAT:
        return FLOAT
    fast = FAST[device.kind] if wanted == AUTO else wanted
    if wanted == AUTO:
        if fast not in precisions_in(folder):
            return FLOAT
    elif wanted == "int8" and device.kind == "gpu":
        raise DeviceError("HEADSTART_PRECISION=int8 is for CPUs: set it to auto, fp16 or fp32 on a GPU")
    variant = Variant.load(folder, fast)
    if variant.passed:
        return fast
    serves = FLOAT if wanted == AUTO else fast
    logger.warning("%s of %s has not passed its gate; serving %s", fast, folder.name, serves)
    return serves


def precision_with_digest(folder: Path, digest: str) -> str | None:
    """The precision of the extractor in a folder whose rows a digest names, if there is one."""
    for precision in precisions_in(folder):
        try:
            named = Manifest.load(folder) if precision == FLOAT else Variant.load(folder, precision)
        except ManifestError as error:
            logger.warning("%s: %s", folder, error)
            continue
        if named.digest == digest:
            return precision
    return None
