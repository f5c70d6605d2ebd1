"""An extractor in another precision: the text beside its graph, and the digest that names its rows.

A variant lies in the folder of the float extractor that it is made from, as `int8.json`, `model.int8.onnx`
and `golden.int8.npz`, or the same with `fp16`. Its rows are other rows, so it has a digest of its own. This
module reads and writes the text; it neither makes a variant nor runs one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from training.errors import ManifestError
from training.manifest import Manifest, sha256_of
from training.typed_json import canonical_digest, plain, read_typed

VARIANT_VERSION = 1
FLOAT = "fp32"
PRECISIONS = ("int8", "fp16")
Precision = Literal["int8", "fp16"]

# What one machine rounds up and another down goes through many layers of few levels; wrong arithmetic, as the
# saturation of old processors, is off by more than 0.1.
VARIANT_GOLDEN_BOUND = 5e-2


@dataclass(frozen=True)
class VariantFiles:
    """Names of the files of a precision in an extractor folder."""

    record: str
    model: str
    golden: str

    @classmethod
    def of(cls, precision: str) -> "VariantFiles":
        return cls(f"{precision}.json", f"model.{precision}.onnx", f"golden.{precision}.npz")


@dataclass(frozen=True)
class ShotPair:
    """Accuracy of heads with `shots` examples of each class, on rows of either precision.

    Both are the mean recall over the classes, in the same draws of examples and on the same other images.
    """

    shots: int
    fp32: float
    variant: float


@dataclass(frozen=True)
class GateFigures:
    """What a variant keeps of the float extractor, on images that it was not calibrated on.

    `cosines` are means over the images, for each layer; `least_cosine` is the least one of the embedding.
    """

    images: int
    cosines: Mapping[str, float]
    least_cosine: float
    shots: tuple[ShotPair, ...]
    seeds: int
    passed: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "cosines", MappingProxyType(dict(self.cosines)))


@dataclass(frozen=True)
class Calibration:
    """How the numbers of a variant were found; `images` is 0 where none are needed."""

    method: str
    images: int


@dataclass(frozen=True)
class Variant:
    """The record of a variant. `manifest` is the digest of the float extractor."""

    format_version: int
    precision: Precision
    manifest: str
    files: Mapping[str, str]
    calibration: Calibration
    gate: GateFigures

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))

    @classmethod
    def load(cls, folder: Path, precision: str) -> "Variant":
        """Read the record of a precision in an extractor folder, and compare it with the manifest there.

        Raises
        ------
        ManifestError
            There is none; it is not JSON; a key is missing, unknown or of the wrong type; or it is of another
            extractor than the one in the folder. The message says what to do.
        """
        files = VariantFiles.of(precision)
        path = folder / files.record
        again = f"Make it anew: `{command(folder, precision)}`"
        if not path.is_file():
            raise ManifestError(
                f"the extractor in {folder} has no {precision} variant. "
                f"Make one: `{command(folder, precision)}`"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found: Variant = read_typed(cls, content, "")
        except ValueError as error:
            raise ManifestError(f"{path} is not JSON: {error}. {again}") from error
        except ManifestError as error:
            raise ManifestError(f"{path}: {error}. {again}") from error
        if found.format_version != VARIANT_VERSION:
            raise ManifestError(
                f"{path}: format_version is {found.format_version}, this version reads {VARIANT_VERSION}. "
                f"{again}"
            )
        if found.precision != precision or set(found.files) != {files.model, files.golden}:
            raise ManifestError(f"{path} is not the record of a variant in {precision}. {again}")
        manifest = Manifest.load(folder)
        if found.manifest != manifest.digest:
            raise ManifestError(
                f"{path} is of the extractor {found.manifest[:12]}, the one in the folder is "
                f"{manifest.digest[:12]}. {again}"
            )
        return found

    def save(self, folder: Path) -> None:
        """Write the record into an extractor folder."""
        text = json.dumps(plain(self), indent=2, sort_keys=True) + "\n"
        (folder / VariantFiles.of(self.precision).record).write_text(text, encoding="utf-8")

    @property
    def digest(self) -> str:
        """sha256 (64 hex digits) of the canonical record: what heads and cached rows of the variant name."""
        return canonical_digest(self)

    @property
    def passed(self) -> bool:
        """Whether it may serve without being asked for by name."""
        return self.gate.passed

    def verify_files(self, folder: Path) -> None:
        """Compare model and golden rows with their sha256.

        Raises
        ------
        ManifestError
            A file is missing or differs; the message names it.
        """
        for name, expected in self.files.items():
            path = folder / name
            found = sha256_of(path) if path.is_file() else "no file"
            if found != expected:
                raise ManifestError(
                    f"{path} is missing or was altered: expected sha256 {expected}, found {found}. "
                    f"Make it anew: `{command(folder, self.precision)}`"
                )


def command(folder: Path, precision: str) -> str:
    """What the user types to make a variant."""
    return f"headstart quantise {folder.name} --images FOLDER --precision {precision}"


def precisions_in(folder: Path) -> tuple[str, ...]:
    """The precisions that an extractor folder has a record of, fp32 first."""
    return (FLOAT, *(p for p in PRECISIONS if (folder / VariantFiles.of(p).record).is_file()))
