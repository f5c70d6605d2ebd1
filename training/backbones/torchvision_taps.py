"""Where torchvision's networks are tapped, and what their channels are on the source.

VGG without batch normalisation, ConvNeXt and ViT, which normalise layers, keep no memory of the source.
"""

from functools import partial
from typing import Any

import torch

from training.backbones.moments import Moments, joined, normalised, summed
from training.backbones.taps import TapPoint


def taps_of(architecture: str) -> tuple[TapPoint, ...]:
    """The taps of an architecture of the catalogue, from the first stage to the last."""
    return _TAPS[architecture]


def _efficientnet(path: str, network: torch.nn.Module) -> Moments:
    """A stage of blocks that end in a normalisation, all but the first added to what came before: exact."""
    stage: Any = network.get_submodule(path)
    return summed(block.block[-1][1] for block in stage)


def _resnet(path: str, network: torch.nn.Module) -> Moments:
    """A stage of blocks that end in a ReLU of a sum, taken as normal."""
    stage: Any = network.get_submodule(path)
    first, *others = stage
    found = (normalised(first.bn3) + normalised(first.downsample[1])).rectified()
    for block in others:
        found = (normalised(block.bn3) + found).rectified()
    return found


def _inception(branches: tuple[str, ...], network: torch.nn.Module) -> Moments:
    """Convolutions side by side, each with a normalisation and a ReLU."""
    layers: list[Any] = [network.get_submodule(path) for path in branches]
    return joined(normalised(layer.bn).rectified() for layer in layers)


def _efficientnet_taps(*dims: int) -> tuple[TapPoint, ...]:
    return tuple(
        TapPoint(f"stage{stage}", dim, f"features.{stage}", partial(_efficientnet, f"features.{stage}"))
        for stage, dim in enumerate(dims, start=2)
    )


def _resnet_tap(stage: int, dim: int) -> TapPoint:
    return TapPoint(f"stage{stage}", dim, f"layer{stage}", partial(_resnet, f"layer{stage}"))


def _inception_tap(stage: int, dim: int, path: str, *branches: str) -> TapPoint:
    layers = tuple(f"{path}.{branch}" for branch in branches) or (path,)
    return TapPoint(f"stage{stage}", dim, path, partial(_inception, layers))


def _vgg_taps(*pools: int) -> tuple[TapPoint, ...]:
    """After each pooling but the first; `pools` are their places."""
    dims = (128, 256, 512, 512)
    stages = enumerate(zip(dims, pools, strict=True), start=2)
    return tuple(TapPoint(f"stage{stage}", dim, f"features.{place}") for stage, (dim, place) in stages)


_TAPS = {
    "resnet50": (_resnet_tap(1, 256), _resnet_tap(2, 512), _resnet_tap(3, 1024)),
    "vgg16": _vgg_taps(9, 16, 23, 30),
    "vgg19": _vgg_taps(9, 18, 27, 36),
    "inception_v3": (
        _inception_tap(1, 192, "Conv2d_4a_3x3"),
        _inception_tap(2, 288, "Mixed_5d", "branch1x1", "branch5x5_2", "branch3x3dbl_3", "branch_pool"),
        _inception_tap(3, 768, "Mixed_6e", "branch1x1", "branch7x7_3", "branch7x7dbl_5", "branch_pool"),
    ),
    "efficientnet_b0": _efficientnet_taps(24, 40, 80, 112, 192),
    "efficientnet_v2_s": _efficientnet_taps(48, 64, 128, 160),
    "convnext_tiny": tuple(
        TapPoint(f"stage{stage}", dim, f"features.{2 * stage - 1}")
        for stage, dim in enumerate((96, 192, 384), start=1)
    ),
    "vit_b_16": tuple(
        TapPoint(f"block{block}", 768, f"encoder.layers.encoder_layer_{block - 1}") for block in (3, 6, 9)
    ),
}
