"""Loads extractors as the settings say; for every process that runs them, also one that knows no store."""

from pathlib import Path

from service.config import Settings
from service.devices.sessions import Device
from service.devices.settings import device_of
from service.embedding.extractor import Extractor
from service.embedding.precision import chosen_precision


def load_extractor(
    folder: Path, settings: Settings, device: Device | None = None, *, precision: str | None = None
) -> Extractor:
    """An extractor folder, loaded as the settings say.

    Parameters
    ----------
    device : where it runs; None: in this process, where the settings say.
    precision : "fp32" or that of a variant in the folder; None: as the settings say.

    Raises
    ------
    ManifestError, DeviceError
        It cannot be used; the message says what to do.
    """
    on = device or device_of(settings)
    found = precision or chosen_precision(folder, settings.precision, on)
    return Extractor.load(folder, device=on, max_pixels=settings.max_pixels, precision=found)


def load_extractors(settings: Settings, device: Device | None) -> list[Extractor]:
    """All extractors that the settings name, in order; as `load_extractor`."""
    return [load_extractor(settings.extractor_folder(name), settings, device) for name in settings.extractors]
