"""What training sees of an input: the input itself, or a view that is shifted, scaled, mirrored and relit.

The same seed gives the same views, so that a run that goes on sees what it would have seen.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from training.manifest import Preprocess

Floats = npt.NDArray[np.float32]
SMALLEST_SCALE = 0.7  # of the side that a view shows
BRIGHTNESS, CONTRAST = 0.15, 0.15  # in standard deviations of the pixels, and as a factor


@dataclass(frozen=True)
class Normaliser:
    """From decoded pixels to what the network takes."""

    mean: torch.Tensor
    std: torch.Tensor

    @classmethod
    def of(cls, spec: Preprocess, device: torch.device) -> "Normaliser":
        shape = (1, 3, 1, 1)
        return cls(
            torch.tensor(spec.mean, device=device).reshape(shape),
            torch.tensor(spec.std, device=device).reshape(shape),
        )

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
        """(n, height, width, 3) uint8 -> (n, 3, height, width) float32."""
        images = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.mean.device)
        normalised = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return normalised.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Views:
    """Random views of n inputs.

    Attributes
    ----------
    maps : (n, 2, 3) float32, where in the input each place of the view comes from (`affine_grid`)
    gain, shift : (n,) float32
    """

    maps: Floats
    gain: Floats
    shift: Floats

    @classmethod
    def draw(cls, count: int, seed: tuple[int, ...], *, upright: bool) -> "Views":
        """Draw views.

        Parameters
        ----------
        upright : whether up and down mean something; else a view may be upside down or on its side, too
        """
        random = np.random.default_rng(seed)
        scale = np.exp(random.uniform(np.log(SMALLEST_SCALE), 0, count))
        offset = random.uniform(-1, 1, (count, 2)) * (1 - scale)[:, None]
        mirrored = random.choice((-1.0, 1.0), (count, 2))
        sideways = random.random(count) < 0.5
        if upright:
            mirrored[:, 1], sideways[:] = 1.0, False
        maps = np.zeros((count, 2, 3), np.float32)
        for axis in (0, 1):
            maps[:, axis, axis] = np.where(sideways, 0, scale * mirrored[:, axis])
            maps[:, axis, 1 - axis] = np.where(sideways, scale * mirrored[:, axis], 0)
        maps[:, :, 2] = offset
        gain = 1 + random.uniform(-CONTRAST, CONTRAST, count)
        shift = random.uniform(-BRIGHTNESS, BRIGHTNESS, count)
        return cls(maps, gain.astype(np.float32), shift.astype(np.float32))

    def of(self, images: torch.Tensor, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        """The views of some inputs; `images` (m, 3, height, width) are those of `rows` (m,)."""
        maps = torch.from_numpy(self.maps[rows]).to(images.device)
        grid = torch.nn.functional.affine_grid(maps, list(images.shape), align_corners=False)
        found = torch.nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        light = [
            torch.from_numpy(x[rows]).to(images.device)[:, None, None, None] for x in (self.gain, self.shift)
        ]
        return (found * light[0] + light[1]).contiguous(memory_format=torch.channels_last)


def upside_down(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Inputs (..., height, width, 3) turned by 180 degrees."""
    return pixels[..., ::-1, ::-1, :]
