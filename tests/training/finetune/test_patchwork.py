"""Patchworks are made of the inputs, are unlike them, and are the same for the same generator."""

import numpy as np

from tests.training.finetune.small import small_samples
from training.finetune.patchwork import patchworks

PIXELS = small_samples(16).pixels


def test_the_same_generator_gives_the_same_patchworks() -> None:
    first, again, other = (patchworks(PIXELS, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == PIXELS.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


def test_patchworks_of_grey_inputs_have_colours_and_the_inputs_stay_grey() -> None:
    before = PIXELS.mean(axis=3, keepdims=True).astype(np.uint8).repeat(3, axis=3)
    pixels = before.copy()
    found = patchworks(pixels, np.random.default_rng(0)).astype(int)
    np.testing.assert_array_equal(pixels, before)
    assert (np.ptp(found, axis=3).mean(axis=(1, 2)) > 10).mean() > 0.8


def test_a_patchwork_shows_two_inputs() -> None:
    """White ones and black ones by turns: most patchworks have some of both kinds, whatever their colours."""
    pixels = np.zeros((40, 32, 32, 3), np.uint8)
    pixels[::2] = 255
    found = patchworks(pixels, np.random.default_rng(0)).reshape(40, -1, 3)
    colours = [len(np.unique(image, axis=0)) for image in found]
    assert np.mean([count == 2 for count in colours]) > 0.8
