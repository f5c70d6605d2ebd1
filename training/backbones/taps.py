"""Taps: pooled outputs of earlier stages of a network, taken in the pass that gives the embedding.

Features of the middle layers are less bound to the classes of the source than those of the last one
(Yosinski, Clune, Bengio and Lipson, "How transferable are features in deep neural networks?", NIPS 2014).
Knows no particular network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from training.backbones.moments import Moments
from training.manifest import Tap


@dataclass(frozen=True)
class TapPoint:
    """A place in a network where it is tapped.

    Attributes
    ----------
    name, dim : of the tap
    path : of the module whose output is pooled: (n, dim, height, width), or tokens (n, t, dim)
    moments : the channels of that output on the source, from the network; None if they cannot be known
    """

    name: str
    dim: int
    path: str
    moments: Callable[[torch.nn.Module], Moments] | None = None

    @property
    def tap(self) -> Tap:
        return Tap(self.name, self.dim)


class Tapped(torch.nn.Module):
    """A network that gives its embedding (n, dim) and its taps, one after the other: (n, sum of dims)."""

    def __init__(self, network: torch.nn.Module, points: Sequence[TapPoint]) -> None:
        super().__init__()
        self.network = network
        self.points = tuple(points)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        hooks = [
            self.network.get_submodule(point.path).register_forward_hook(partial(_keep, found, point.name))
            for point in self.points
        ]
        try:
            embedding = self.network(pixels)
        finally:
            for hook in hooks:
                hook.remove()
        return embedding, torch.cat([pooled(found[point.name]) for point in self.points], dim=1)


def pooled(activations: torch.Tensor) -> torch.Tensor:
    """Means over the pixels of (n, c, height, width), or over the tokens of (n, t, c): (n, c)."""
    return activations.mean(dim=(2, 3)) if activations.ndim == 4 else activations.mean(dim=1)


def _keep(
    found: dict[str, torch.Tensor], name: str, module: torch.nn.Module, inputs: object, output: torch.Tensor
) -> None:
    found[name] = output
