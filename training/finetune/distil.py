"""What the source network answers, so that a network in training goes on answering the same.

Li and Hoiem, "Learning without forgetting", ECCV 2016, ask the source about the inputs that are trained on;
here it is asked about patchworks of them, which reach more of what it knows. Knows no optimiser.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch

from training.classifier import Classifier
from training.finetune.feed import Feed
from training.finetune.patchwork import patchworks
from training.finetune.recipe import Recipe
from training.finetune.samples import Ints

TEMPERATURE = 2.0
SHARE = 0.5  # patchworks beside the inputs of a batch


@dataclass(frozen=True, eq=False)
class Source:
    """The network as it was before training.

    Attributes
    ----------
    feed : of pixels, from which patchworks are made
    first : the layers that are kept; None if all are trained
    rest : a copy of the layers that are trained
    weight, bias : of the network's own classifier, (k, dim) and (k,)
    """

    feed: Feed
    first: torch.nn.Module | None
    rest: torch.nn.Module
    weight: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def of(cls, recipe: Recipe, classifier: Classifier, feed: Feed, device: torch.device) -> "Source":
        """The network that a recipe is about to train."""
        rest = copy.deepcopy(recipe.rest).to(device).eval().requires_grad_(False)
        weight, bias = (torch.from_numpy(array).to(device) for array in (classifier.weight, classifier.bias))
        return cls(feed, recipe.first, rest, weight, bias)

    def reminders(self, rows: Ints, random: np.random.Generator) -> torch.Tensor:
        """Patchworks of half of some inputs, as the layers that are trained take them."""
        chosen = random.choice(rows, max(round(SHARE * len(rows)), 1), replace=False)
        images = self.feed.normalise(patchworks(self.feed.samples.pixels[chosen], random))
        if self.first is None:
            return images
        with torch.no_grad():
            found: torch.Tensor = self.first(images)
        return found

    def embeddings(self, reminders: torch.Tensor) -> torch.Tensor:
        """What the source makes of reminders, (n, dim)."""
        with torch.no_grad():
            found: torch.Tensor = self.rest(reminders)
        return found

    def divergence(self, found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        """How far the answers by embeddings (n, dim) are from those by the source's, a scalar.

        The divergence of Kullback and Leibler of the softened probabilities, times the temperature's square
        (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015).
        """
        divergence = torch.nn.functional.kl_div(
            self._answers(found), self._answers(expected), reduction="batchmean", log_target=True
        )
        return TEMPERATURE**2 * divergence

    def _answers(self, embeddings: torch.Tensor) -> torch.Tensor:
        logits = torch.nn.functional.linear(embeddings.float(), self.weight, self.bias)
        return torch.nn.functional.log_softmax(logits / TEMPERATURE, dim=1)
