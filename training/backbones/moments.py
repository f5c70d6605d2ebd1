"""Mean and variance of a layer's channels on the images a network was trained on, from its weights alone.

What batch normalisation gives has, on the source, the mean of its bias and the deviation of its weight. Sums
add means and, taken as independent, variances. After a ReLU they are those of a rectified normal variable.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
import torch

from training.source import Channels, Floats

SMALLEST_STD = 1e-12


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance of each channel, (c,) float64 each."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.mean + other.mean, self.variance + other.variance)

    def channels(self) -> Channels:
        """As they are kept on disk."""
        return Channels(_array(self.mean), _array(self.variance.sqrt()))

    def rectified(self) -> "Moments":
        """After a ReLU, of normal channels."""
        std = self.variance.sqrt().clamp(min=SMALLEST_STD)
        ratio = self.mean / std
        density = torch.exp(-(ratio**2) / 2) / sqrt(2 * pi)
        share = torch.special.ndtr(ratio)  # of the values above zero
        mean = self.mean * share + std * density
        square = (self.mean**2 + self.variance) * share + self.mean * std * density
        return Moments(mean, (square - mean**2).clamp(min=0))


def normalised(layer: torch.nn.Module) -> Moments:
    """Of the output of a batch normalisation."""
    if not isinstance(layer, torch.nn.BatchNorm2d):
        raise TypeError(f"expected BatchNorm2d, found {type(layer).__name__}")
    return Moments(layer.bias.double(), layer.weight.double() ** 2)


def summed(layers: Iterable[torch.nn.Module]) -> Moments:
    """Of the sum of the outputs of batch normalisations: a chain of blocks with linear shortcuts."""
    first, *others = [normalised(layer) for layer in layers]
    return sum(others, first)


def _array(values: torch.Tensor) -> Floats:
    return np.asarray(values.numpy(), dtype=np.float32)


def joined(parts: Iterable[Moments]) -> Moments:
    """Of channels side by side."""
    parts = list(parts)
    return Moments(torch.cat([part.mean for part in parts]), torch.cat([part.variance for part in parts]))
