"""What an extractor is: the text beside its graph, and the digest that names it.

An extractor is a folder. Its `manifest.json` says where the weights come from, how an image becomes the
input of the graph, and the sha256 of every other file. This module reads and writes that text. It does not
know how to decode an image, to run the graph or to make one.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from training.errors import ManifestError
from training.typed_json import canonical_digest, plain, read_typed

FORMAT_VERSION = 2  # 1 had no taps
TAPS_OUTPUT = "taps"  # of the graph of an extractor with taps
EMBEDDING = "embedding"  # the layer of every extractor; taps have names of their own
RESERVED = (EMBEDDING, "auto")  # no name of a tap: `layers=auto` lets a fit choose

Triple = tuple[float, float, float]
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ExtractorFiles:
    """Names of the files in an extractor folder, defined here and nowhere else."""

    manifest: str = "manifest.json"
    model: str = "model.onnx"
    golden: str = "golden.npz"
    classifier: str = "classifier.npz"
    source: str = "source.npz"
    weights: str = "weights.safetensors"
    tuned: str = "tuned.json"


FILES = ExtractorFiles()


@dataclass(frozen=True)
class Weights:
    """Where the weights come from.

    `sha256` is that of the weights file, or, for random weights, of the tensors in the order of their names.
    """

    source: str
    sha256: str
    licence: str


@dataclass(frozen=True)
class Input:
    """The input of the graph: pixels as they are decoded, shape (batch, height, width, 3)."""

    height: int
    width: int
    name: str = "images"
    dtype: Literal["uint8"] = "uint8"
    layout: Literal["NHWC"] = "NHWC"


@dataclass(frozen=True)
class Output:
    """The output of the graph, shape (batch, dim)."""

    dim: int
    name: str = "embedding"
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True)
class Tap:
    """A pooled earlier layer: `dim` columns of the second output, `taps`, float32 (batch, sum of dims)."""

    name: str
    dim: int


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes `crop_height` x `crop_width` pixels.

    `short_side`: the short side is resized to `resize_short_side_px`, then the centre is cropped.
    `exact`: the whole image is resized to the crop, its aspect ignored; `resize_short_side_px` is null.
    `mean` and `std` are in units of 0 to 255; the graph itself computes `(pixel - mean) / std`.
    `steps` says the same in words, so that the manifest alone is enough to do it again elsewhere.
    """

    resize: Literal["short_side", "exact"]
    resize_short_side_px: int | None
    crop_height: int
    crop_width: int
    interpolation: Literal["bilinear", "bicubic"]
    mean: Triple
    std: Triple
    steps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """Everything that decides what an extractor's embeddings are.

    What an extractor gives of an input is a row: the embedding, then the taps in their order. Each of them is
    a layer.
    """

    format_version: int
    export_version: int
    name: str
    modality: Literal["image"]
    architecture: str
    weights: Weights
    input: Input
    preprocess: Preprocess
    output: Output
    taps: tuple[Tap, ...]
    opset: int
    files: Mapping[str, str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))
        _check(self)

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read `manifest.json` of an extractor folder.

        Raises
        ------
        ManifestError
            No folder, no manifest, not JSON, or a key that is missing, unknown or of the wrong type; the
            message names the key.
        """
        path = folder / FILES.manifest
        if not path.is_file():
            raise ManifestError(
                f"no extractor in {folder}: {FILES.manifest} is missing. Run `headstart export {folder.name}`"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ManifestError(f"{path} is not JSON: {error}") from error
        if isinstance(content, dict) and content.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
            raise ManifestError(
                f"{path}: format_version is {content['format_version']!r}, this version reads "
                f"{FORMAT_VERSION}. Export the extractor again: `headstart export {folder.name}`"
            )
        try:
            manifest: Manifest = read_typed(cls, content, "")
        except ManifestError as error:
            raise ManifestError(f"{path}: {error}") from error
        return manifest

    def save(self, folder: Path) -> None:
        """Write `manifest.json` into an existing folder."""
        text = json.dumps(plain(self), indent=2, sort_keys=True) + "\n"
        (folder / FILES.manifest).write_text(text, encoding="utf-8")

    @property
    def digest(self) -> str:
        """sha256 (64 hex digits) of the canonical JSON: sorted keys, no whitespace, UTF-8."""
        return canonical_digest(self)

    @property
    def layer_dims(self) -> dict[str, int]:
        """The length of each layer, in the order of a row."""
        return {EMBEDDING: self.output.dim, **{tap.name: tap.dim for tap in self.taps}}

    @property
    def width(self) -> int:
        """The length of a row."""
        return sum(self.layer_dims.values())

    def verify_files(self, folder: Path) -> None:
        """Compare every listed file with its sha256.

        Raises
        ------
        ManifestError
            A file is missing or differs; the message names it.
        """
        for name, expected in self.files.items():
            path = folder / name
            if not path.is_file():
                raise ManifestError(f"{path} is missing. Export the extractor again")
            found = sha256_of(path)
            if found != expected:
                raise ManifestError(f"{path} was altered: expected sha256 {expected}, found {found}")


def sha256_of(path: Path) -> str:
    """sha256 of a file, as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check(manifest: Manifest) -> None:
    """What the types alone do not say."""
    preprocess, graph_input = manifest.preprocess, manifest.input
    crop = (preprocess.crop_height, preprocess.crop_width)
    side = preprocess.resize_short_side_px
    rules = {
        "name": bool(_PLAIN_NAME.fullmatch(manifest.name)),
        "input.height": graph_input.height > 0,
        "input.width": graph_input.width > 0,
        "output.dim": manifest.output.dim > 0,
        "taps": len({*RESERVED, *(tap.name for tap in manifest.taps)}) == len(RESERVED) + len(manifest.taps)
        and all(tap.dim > 0 and _PLAIN_NAME.fullmatch(tap.name) for tap in manifest.taps),
        "preprocess.crop_height": preprocess.crop_height == graph_input.height,
        "preprocess.crop_width": preprocess.crop_width == graph_input.width,
        "preprocess.resize_short_side_px": (side is None)
        if preprocess.resize == "exact"
        else (side is not None and side >= max(crop)),
        "preprocess.std": all(value > 0 for value in preprocess.std),
        f"files[{FILES.model!r}]": FILES.model in manifest.files,
        f"files[{FILES.golden!r}]": FILES.golden in manifest.files,
        "weights.sha256": bool(_SHA256.fullmatch(manifest.weights.sha256)),
        # A name with a slash could point outside the folder.
        "files": all(_PLAIN_NAME.fullmatch(n) and _SHA256.fullmatch(d) for n, d in manifest.files.items()),
    }
    for key, holds in rules.items():
        if not holds:
            raise ManifestError(f"key {key}: its value cannot be used with the rest of the manifest")
