"""Catalogue of pretrained networks: the one place that knows their names.

Importing this package does not import torch.
"""

from training.backbones.catalogue import CATALOGUE, Entry, WeightsChoice, entry_of
from training.backbones.load import load_backbone

__all__ = ["CATALOGUE", "Entry", "WeightsChoice", "entry_of", "load_backbone"]
