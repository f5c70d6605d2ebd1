"""Batch normalisation for another domain: its statistics anew from unlabelled inputs; no weight changes.

Li et al., "Revisiting batch normalization for practical domain adaptation" (AdaBN), 2016 (arXiv:1603.04779).
"""

from collections.abc import Callable

import numpy as np
import torch

from training.errors import FinetuneError
from training.finetune.cut import batch_normalisations
from training.finetune.samples import Pixels
from training.finetune.views import Normaliser

BATCH = 32
FEWEST_INPUTS = 16


def recalibrate(
    module: torch.nn.Module, pixels: Pixels, normalise: Normaliser, seed: int, tell: Callable[[float], None]
) -> None:
    """Replace the statistics of every batch normalisation by those of `pixels` (n, height, width, 3).

    Raises
    ------
    FinetuneError
        The network has none, or there are too few inputs.
    """
    layers = batch_normalisations(module)
    if not layers:
        raise FinetuneError("the network has no batch normalisation: there is nothing to recalibrate")
    if len(pixels) < FEWEST_INPUTS:
        raise FinetuneError(f"expected at least {FEWEST_INPUTS} inputs to recalibrate on, got {len(pixels)}")
    usual = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
        layer.train()
    order = np.random.default_rng(seed).permutation(len(pixels))
    groups = np.array_split(order, max(len(order) // BATCH, 1))
    for done, rows in enumerate(groups, start=1):
        with torch.inference_mode():
            module(normalise(pixels[rows]))
        tell(done / len(groups))
    for layer, momentum in zip(layers, usual, strict=True):
        layer.momentum = momentum
        layer.eval()
