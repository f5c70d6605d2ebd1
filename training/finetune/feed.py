"""Batches for the layers that are trained: pixels, or the outputs of the layers that are kept.

Kept layers give the same for the same view, so they run once for each of a few views; the outputs lie in the
run folder, where a run that goes on finds them. Knows no loss.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from training.finetune.samples import Ints, Samples
from training.finetune.views import Normaliser, Views

FORWARD_BATCH = 64
CACHE_BYTES = 2 << 30
MAX_VIEWS = 4
FLOAT_BYTES = 4
Floats = npt.NDArray[np.float32]
Tell = Callable[[float], None]


@dataclass(frozen=True)
class Feed:
    """Batches of pixels, a new view of each input in every epoch.

    Attributes
    ----------
    samples : all inputs
    normalise : from pixels to what the network takes
    seed : of the views
    augment : whether there are other views than the input itself
    upright : whether up and down mean something
    """

    samples: Samples
    normalise: Normaliser
    seed: int
    augment: bool
    upright: bool

    def views(self, number: int) -> Views | None:
        """Some views of all inputs; the first are the inputs themselves."""
        if number == 0 or not self.augment:
            return None
        return Views.draw(len(self.samples), (self.seed, number), upright=self.upright)

    def batches(self, groups: list[Ints], epoch: int) -> Iterator[torch.Tensor]:
        """The inputs of each group of rows, as an epoch (from 1) sees them; epoch 0 sees them as they are."""
        views = self.views(epoch)
        for rows in groups:
            images = self.normalise(self.samples.pixels[rows])
            yield images if views is None else views.of(images, rows)


@dataclass(frozen=True)
class ThroughFeed:
    """Batches of the outputs of kept layers, which run each time: for more inputs than can be cached."""

    feed: Feed
    first: torch.nn.Module

    def batches(self, groups: list[Ints], epoch: int) -> Iterator[torch.Tensor]:
        """As `Feed.batches`."""
        for batch in self.feed.batches(groups, epoch):
            with torch.no_grad():
                found = self.first(batch)
            yield found  # outside, or the mode would be that of the caller, too


@dataclass(frozen=True)
class CachedFeed:
    """Batches of the outputs of kept layers. Each epoch takes one of the views of each input at random."""

    files: tuple[npt.NDArray[np.float32], ...]
    seed: int
    device: torch.device

    @classmethod
    def fill(cls, feed: Feed, first: torch.nn.Module, folder: Path, tell: Tell) -> "CachedFeed":
        """Run the kept layers over all inputs once for each view, but for the views that are there."""
        files: list[Floats] = []
        views = 1
        while len(files) < views:
            number = len(files)
            path = folder / f"activations-{number}.npy"
            if not path.is_file():
                _write(path, feed, first, number)
            files.append(np.load(path, mmap_mode="r"))
            if feed.augment and number == 0:
                views = int(np.clip(CACHE_BYTES // files[0].nbytes, 1, MAX_VIEWS))
            tell(len(files) / views)
        return cls(tuple(files), feed.seed, feed.normalise.mean.device)

    def batches(self, groups: list[Ints], epoch: int) -> Iterator[torch.Tensor]:
        """As `Feed.batches`."""
        view = np.zeros(len(self.files[0]), np.int64)
        if epoch > 0:
            view = np.random.default_rng((self.seed, epoch)).integers(0, len(self.files), len(view))
        for rows in groups:
            batch = np.stack([self.files[view[row]][row] for row in rows])
            yield _channels_last(torch.from_numpy(batch).to(self.device))


def feed_after(feed: Feed, first: torch.nn.Module, folder: Path, tell: Tell) -> CachedFeed | ThroughFeed:
    """Batches of what kept layers give, cached if there is room for a view of all inputs."""
    one = next(outputs(first, feed, np.arange(1)))
    if one.numel() * FLOAT_BYTES * len(feed.samples) > CACHE_BYTES:
        return ThroughFeed(feed, first)
    return CachedFeed.fill(feed, first, folder, tell)


def outputs(
    module: torch.nn.Module, feed: "Feed | CachedFeed | ThroughFeed", rows: Ints, number: int = 0
) -> Iterator[torch.Tensor]:
    """What a module gives for some inputs in one of their views, in batches."""
    groups = [rows[start : start + FORWARD_BATCH] for start in range(0, len(rows), FORWARD_BATCH)]
    for batch in feed.batches(groups, number):
        with torch.inference_mode():
            found = module(batch)
        yield found  # outside, or the mode would be that of the caller, too


def _write(path: Path, feed: Feed, first: torch.nn.Module, number: int) -> None:
    """The whole file appears at once, so that one that is there is complete."""
    partial = path.with_suffix(".partial")
    rows = np.arange(len(feed.samples))
    shape = next(outputs(first, feed, rows[:1])).shape[1:]
    file = np.lib.format.open_memmap(partial, "w+", np.float32, (len(rows), *shape))
    start = 0
    for batch in outputs(first, feed, rows, number):
        file[start : start + len(batch)] = batch.float().cpu().numpy()
        start += len(batch)
    file.flush()
    os.replace(partial, path)


def _channels_last(batch: torch.Tensor) -> torch.Tensor:
    return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch
