"""Patchworks: scraps of a few inputs, of any size, turn and colour, one laid on another. Knows no network.

Inputs of one kind say little about what else a network knows; their scraps say much. After the views of Asano
and Saeed, "The augmented image prior: distilling 1000 classes by extrapolating from a single image", ICLR
2023, and CutMix (Yun et al., ICCV 2019).
"""

import numpy as np
import numpy.typing as npt
import torch

from training.finetune.samples import Pixels

SMALLEST_SCALE, LONGEST_SIDE = 0.2, 4 / 3  # of the side that a scrap shows, and of its sides to one another
CONTRAST, BRIGHTNESS = 0.7, 0.5  # as the logarithm of a factor, and on a scale from -1 to 1
HALF_WHITE = 127.5


def patchworks(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """As many patchworks as inputs, (n, height, width, 3) uint8, and like these on the CPU."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / HALF_WHITE - 1
    scraps = _laid_on(_coloured(_cut_out(images, random), random), random)
    found = ((scraps.clamp(-1, 1) + 1) * HALF_WHITE).round().to(torch.uint8)
    return found.permute(0, 2, 3, 1).contiguous().numpy()


def _cut_out(images: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    count = len(images)
    scale = np.exp(random.uniform(np.log(SMALLEST_SCALE), 0, count))
    stretch = np.exp(random.uniform(-0.5, 0.5, count) * np.log(LONGEST_SIDE))
    angle = random.uniform(-np.pi, np.pi, count)
    maps = np.zeros((count, 2, 3), np.float32)
    maps[:, 0, 0], maps[:, 0, 1] = scale * stretch * np.cos(angle), -scale * np.sin(angle)
    maps[:, 1, 0], maps[:, 1, 1] = scale * np.sin(angle), scale / stretch * np.cos(angle)
    maps[:, :, 2] = random.uniform(-1, 1, (count, 2)) * (1 - scale)[:, None]
    grid = torch.nn.functional.affine_grid(torch.from_numpy(maps), list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _coloured(scraps: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Channels swapped and mixed, then another contrast and another light."""
    count = len(scraps)
    swapped = np.eye(3)[random.permuted(np.tile(np.arange(3), (count, 1)), axis=1)]
    share = random.random((count, 1, 1))
    mixed = _tensor(share * swapped + (1 - share) * random.uniform(-1, 1, (count, 3, 3)))
    scraps = torch.einsum("noc,nchw->nohw", mixed, scraps)
    means = scraps.mean((2, 3), keepdim=True)
    gain = _tensor(np.exp(random.uniform(-CONTRAST, CONTRAST, (count, 1, 1, 1))))
    return (
        (scraps - means) * gain + means + _tensor(random.uniform(-BRIGHTNESS, BRIGHTNESS, (count, 3, 1, 1)))
    )


def _laid_on(scraps: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """A part of each scrap, of any size, on the next one, in its place."""
    found = scraps.clone()
    height, width = scraps.shape[2:]
    for below, above in zip(found, scraps.roll(1, 0), strict=True):
        share = np.sqrt(random.random())
        tall, wide = int(height * share), int(width * share)
        top, left = random.integers(height - tall + 1), random.integers(width - wide + 1)
        place = (slice(None), slice(top, top + tall), slice(left, left + wide))
        below[place] = above[place]
    return found


def _tensor(values: npt.NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))
