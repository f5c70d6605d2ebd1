"""A pretrained network cut in two: the part that embeds, and its own classifier.

Knows no particular network.
"""

from dataclasses import dataclass

import torch

from training.backbones.taps import TapPoint
from training.classifier import Classifier
from training.manifest import Preprocess, Weights
from training.source import SourceStatistics


@dataclass(frozen=True)
class Backbone:
    """A frozen network in evaluation mode.

    `module` maps normalised pixels, float32 (n, 3, crop_height, crop_width), to embeddings (n, dim), the
    input of `classifier`. `taps` are places in it whose outputs, pooled, heads may use, too.
    """

    name: str
    architecture: str
    module: torch.nn.Module
    classifier: Classifier
    preprocess: Preprocess
    weights: Weights
    taps: tuple[TapPoint, ...] = ()

    @property
    def dim(self) -> int:
        return self.classifier.dim

    def source_statistics(self) -> SourceStatistics | None:
        """The channels of the taps on the source images; None if the network does not tell."""
        found = {point.name: point.moments(self.module) for point in self.taps if point.moments}
        if not found:
            return None
        return SourceStatistics({name: moments.channels() for name, moments in found.items()})


def take_classifier(network: torch.nn.Module, classes: tuple[str, ...]) -> Classifier:
    """Replace the last linear layer of `network` by the identity, and return what it was."""
    linears = {n: m for n, m in network.named_modules() if isinstance(m, torch.nn.Linear)}
    path, last = list(linears.items())[-1]
    parent, _, leaf = path.rpartition(".")
    setattr(network.get_submodule(parent), leaf, torch.nn.Identity())
    return Classifier(last.weight.detach().numpy().copy(), last.bias.detach().numpy().copy(), classes)
