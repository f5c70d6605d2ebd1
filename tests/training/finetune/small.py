"""A small network, and labelled images that it can learn, so that the loop is tested in seconds."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from training.backbones.backbone import Backbone
from training.backbones.taps import TapPoint
from training.classifier import Classifier
from training.finetune.distil import Source
from training.finetune.feed import CachedFeed, Feed, ThroughFeed
from training.finetune.loop import Trainer
from training.finetune.options import FinetuneOptions
from training.finetune.recipe import recipe_of
from training.finetune.samples import Samples
from training.finetune.views import Normaliser
from training.manifest import Preprocess, Weights

SIDE, DIM = 32, 24
SPEC = Preprocess("exact", None, SIDE, SIDE, "bilinear", (127.0, 127.0, 127.0), (64.0, 64.0, 64.0))
CPU = torch.device("cpu")


def layers(inside: int, outside: int) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(inside, outside, 3, 2, 1), torch.nn.BatchNorm2d(outside), torch.nn.ReLU()
    )


class SmallNetwork(torch.nn.Module):
    """Three stages, pooled: (n, 3, 32, 32) -> (n, 24)."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = layers(3, 8), layers(8, 16), layers(16, DIM)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.three(self.two(self.one(pixels)))
        return found.mean(dim=(2, 3))


def small_backbone(seed: int = 0) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallNetwork()
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
    return Backbone(
        name="small",
        architecture="small",
        module=network.eval().requires_grad_(False),
        classifier=small_classifier(seed),
        preprocess=SPEC,
        weights=Weights("random, seed 0", "0" * 64, "none"),
        taps=(TapPoint("stage1", 8, "one"), TapPoint("stage2", 16, "two")),
    )


def small_classifier(seed: int) -> Classifier:
    weight = np.random.default_rng(seed).normal(0, 1, (5, DIM)).astype(np.float32)
    return Classifier(weight, np.zeros(5, np.float32), ("a", "b", "c", "d", "e"))


def small_samples(count: int = 60, seed: int = 0) -> Samples:
    """Stripes: across, down, or both at once."""
    random = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    places = np.arange(SIDE) // 4 % 2 * 120.0
    patterns = [places[:, None] + 0 * places, places + 0 * places[:, None], (places[:, None] + places) / 2]
    noise = random.normal(60, 30, (count, SIDE, SIDE, 3))
    pixels = np.stack([patterns[target][:, :, None] for target in targets]) + noise
    names = ("across", "down", "mixed")
    return Samples(
        pixels=pixels.clip(0, 255).astype(np.uint8),
        labels=tuple(names[target] for target in targets),
        classes=names,
        targets=targets,
        keys=tuple(f"{index:064x}" for index in range(count)),
    )


def small_trainer(
    folder: Path,
    *,
    backbone: Backbone | None = None,
    augment: bool = True,
    cached: bool = True,
    watched: int = 0,
    **options: object,
) -> Trainer:
    """A trainer of a new small network, its first stage or two kept unless the strategy trains all."""
    folder.mkdir(parents=True, exist_ok=True)
    samples, chosen = small_samples(), FinetuneOptions.from_dict({"epochs": 4, "batch_size": 16, **options})
    backbone = backbone or small_backbone()
    recipe = recipe_of(backbone, chosen, len(samples) - watched)
    pixels = Feed(samples, Normaliser.of(SPEC, CPU), chosen.seed, augment, upright=True)
    source = Source.of(recipe, backbone.classifier, pixels, CPU) if recipe.distilled else None
    feed: Feed | CachedFeed | ThroughFeed = pixels
    if recipe.first is not None:
        through = ThroughFeed(pixels, recipe.first)
        feed = CachedFeed.fill(pixels, recipe.first, folder, lambda done: None) if cached else through
    return Trainer(
        recipe=recipe,
        feed=feed,
        targets=samples.targets,
        train=np.arange(watched, len(samples)),
        watched=np.arange(watched),
        batch_size=chosen.batch_size,
        patience=chosen.patience,
        seed=chosen.seed,
        folder=folder,
        device=CPU,
        source=source,
    )


def embeddings_of(trainer: Trainer, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Embeddings (len(rows), dim) of inputs as they are, by the layers as they are now."""
    found: npt.NDArray[np.float32] = trainer._forward(rows).numpy()
    return found
