"""Loads extractors as the settings say; for every process that runs them, also one that knows no store."""

from pathlib import Path

from service.config import Settings
from service.devices.settings import device_of
from service.extractor import Extractor
from service.sessions import Device


def load_extractor(folder: Path, settings: Settings, device: Device | None = None) -> Extractor:
    """An extractor folder, loaded as the settings say.

    Parameters
    ----------
    device : where it runs; None: in this process, where the settings say.

    Raises
    ------
    ManifestError, DeviceError
        It cannot be used; the message says what to do.
    """
    return Extractor.load(folder, device=device or device_of(settings), max_pixels=settings.max_pixels)
