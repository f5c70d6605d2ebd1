"""A pretrained network cut in two: the part that embeds, and its own classifier.

Knows no particular network.
"""

from dataclasses import dataclass

import torch

from training.classifier import Classifier
from training.manifest import Preprocess, Weights


@dataclass(frozen=True)
class Backbone:
    """A frozen network in evaluation mode.

    `module` maps normalised pixels, float32 (n, 3, crop_height, crop_width), to embeddings (n, dim), the
    input of `classifier`.
    """

    name: str
    architecture: str
    module: torch.nn.Module
    classifier: Classifier
    preprocess: Preprocess
    weights: Weights

    @property
    def dim(self) -> int:
        return self.classifier.dim


def take_classifier(network: torch.nn.Module, classes: tuple[str, ...]) -> Classifier:
    """Replace the last linear layer of `network` by the identity, and return what it was."""
    linears = {n: m for n, m in network.named_modules() if isinstance(m, torch.nn.Linear)}
    path, last = list(linears.items())[-1]
    parent, _, leaf = path.rpartition(".")
    setattr(network.get_submodule(parent), leaf, torch.nn.Identity())
    return Classifier(last.weight.detach().numpy().copy(), last.bias.detach().numpy().copy(), classes)
