"""A loaded extractor, from image bytes to rows: an embedding and the taps, if any.

Knows what the folder says, warm-up and the golden check. Does not know on which device its session runs, and
no cache, store or HTTP.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.devices import LocalDevice
from service.devices.sessions import Device, Graph, Session
from training.errors import ExtractorMismatchError, ManifestError
from training.golden import GOLDEN_BOUND, Golden, rows_error
from training.manifest import FILES, TAPS_OUTPUT, Manifest
from training.preprocess import DecodeLimits, decode_image
from training.tuned import TunedOn
from training.variant import FLOAT, VARIANT_GOLDEN_BOUND, Variant, VariantFiles

logger = logging.getLogger("headstart.extractor")


@dataclass(frozen=True)
class Extractor:
    """An extractor folder, loaded in one precision. `embed` may be called from many threads at once.

    `digest` names its rows: that of the manifest, or of the `variant`. `tuned_on` are the inputs that
    fine-tuning trained it on: what it says of them flatters it.
    """

    manifest: Manifest
    digest: str
    folder: Path
    session: Session
    limits: DecodeLimits
    tuned_on: TunedOn
    variant: Variant | None = None

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: str | Device = "cpu",
        max_pixels: int = 64_000_000,
        precision: str = FLOAT,
    ) -> "Extractor":
        """Read, verify and warm up an extractor folder.

        Parameters
        ----------
        folder : an extractor folder, as `headstart export` writes it.
        device : where it runs, or the name of a device of this process, as in HEADSTART_DEVICE.
        max_pixels : larger images are refused before they are decoded.
        precision : "fp32", or that of a variant in the folder.

        Raises
        ------
        ManifestError
            There is no variant of that precision, a file is missing or altered, or the golden inputs do not
            give their embeddings.
        DeviceError
            The device that was asked for cannot be used.
        """
        manifest = Manifest.load(folder)
        manifest.verify_files(folder)
        on = LocalDevice(device) if isinstance(device, str) else device
        variant = None if precision == FLOAT else Variant.load(folder, precision)
        if variant is not None:
            variant.verify_files(folder)
        model, sha256 = _model_of(manifest, variant)
        names = (manifest.output.name, *([TAPS_OUTPUT] if manifest.taps else []))
        graph = Graph((folder / model).absolute(), sha256, manifest.input.name, names)
        extractor = cls(
            manifest=manifest,
            digest=(variant or manifest).digest,
            folder=folder,
            session=on.open(graph),
            limits=DecodeLimits(max_pixels=max_pixels),
            tuned_on=TunedOn.load(folder),
            variant=variant,
        )
        extractor.check_golden(folder)
        shown = (manifest.name, extractor.precision, extractor.digest[:12], extractor.provider)
        logger.info("extractor %s %s %s ready on %s", *shown)
        return extractor

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def precision(self) -> str:
        """ "fp32", "int8" or "fp16"."""
        return FLOAT if self.variant is None else self.variant.precision

    @property
    def provider(self) -> str:
        """What onnxruntime calls the device that it runs on."""
        return self.session.provider

    @property
    def batch_size(self) -> int:
        """How many images at once make good use of the device."""
        return self.session.batch_size

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.manifest.output.dim

    @property
    def width(self) -> int:
        """Length of a row."""
        return self.manifest.width

    @property
    def layer_dims(self) -> Mapping[str, int]:
        """Length of each layer, in the order of a row."""
        return self.manifest.layer_dims

    def model(self) -> bytes:
        """The ONNX model that is loaded, read again.

        Raises
        ------
        ExtractorMismatchError
            The file is gone, or is not the one that was loaded.
        """
        name, sha256 = _model_of(self.manifest, self.variant)
        path = self.folder / name
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ExtractorMismatchError(
                f"the model of extractor {self.name} was altered since it was loaded: restart the server"
            )
        return data

    def decode(self, data: bytes) -> npt.NDArray[np.uint8]:
        """Image bytes to the network's input, shape (height, width, 3). Raises InputError."""
        return decode_image(data, self.manifest.preprocess, self.limits)

    def embed(
        self, images: Sequence[npt.NDArray[np.uint8]], *, within_s: float = float("inf")
    ) -> npt.NDArray[np.float32]:
        """Decoded images, each (height, width, 3), to rows, shape (len(images), self.width).

        Parameters
        ----------
        within_s : how long the rows are of use, in seconds.

        Raises
        ------
        DeviceError
            The device cannot run it now; DeviceBusyError: or not within that time.
        """
        batch = images[0][np.newaxis] if len(images) == 1 else np.stack(images)
        return self.session.run(batch, within_s=within_s)

    def close(self) -> None:
        """Let go of the device. Nothing is embedded any more."""
        self.session.close()

    def check_golden(self, folder: Path) -> None:
        """Embed the golden inputs one by one and as a batch: also the warm-up of the session.

        Raises
        ------
        ManifestError
            A layer of a row is farther from the recorded one than rounding explains.
        """
        name, bound = FILES.golden, GOLDEN_BOUND
        if self.variant is not None:
            name, bound = VariantFiles.of(self.precision).golden, VARIANT_GOLDEN_BOUND
        golden = Golden.load(folder, name)
        images = [self.decode(data) for data in golden.inputs]
        for found in (np.concatenate([self.embed([image]) for image in images]), self.embed(images)):
            error = rows_error(found, golden.rows, self.layer_dims)
            if error > bound:
                raise ManifestError(
                    f"extractor {self.name} in {self.precision}: the golden inputs give other embeddings on"
                    f" {self.provider} than recorded: relative error {error:.2g}, allowed {bound:g}"
                )


def _model_of(manifest: Manifest, variant: Variant | None) -> tuple[str, str]:
    """Name of the graph's file, and the sha256 it must have."""
    name = FILES.model if variant is None else VariantFiles.of(variant.precision).model
    return name, (variant or manifest).files[name]
