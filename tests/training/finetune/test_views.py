"""Views show parts of an input, the right way up where that matters; the same seed gives the same ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.finetune.small import CPU, SIDE, SPEC, small_samples
from training.finetune.feed import CachedFeed, Feed, ThroughFeed, feed_after
from training.finetune.views import Normaliser, Views, upside_down

COUNT = 200


def test_the_same_seed_gives_the_same_views() -> None:
    first, second = (Views.draw(COUNT, (3, 1), upright=False) for _ in range(2))
    assert np.array_equal(first.maps, second.maps)
    assert not np.array_equal(first.maps, Views.draw(COUNT, (3, 2), upright=False).maps)


def test_upright_views_are_never_upside_down_or_on_their_side() -> None:
    maps = Views.draw(COUNT, (0, 1), upright=True).maps
    assert (maps[:, 1, 1] > 0).all()
    assert not maps[:, 0, 1].any()
    assert 0.3 < (maps[:, 0, 0] < 0).mean() < 0.7  # mirrored
    free = Views.draw(COUNT, (0, 1), upright=False).maps
    assert 0.3 < (free[:, 0, 0] == 0).mean() < 0.7  # on their side
    assert (free[:, 1, 1] < 0).any()


@pytest.mark.parametrize("upright", [True, False])
def test_views_show_nothing_from_outside(upright: bool) -> None:
    views = Views.draw(COUNT, (0, 1), upright=upright)
    corners = np.array([[-1, -1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, 1]], np.float32)
    places = np.einsum("nij,kj->nki", views.maps, corners)
    assert np.abs(places).max() <= 1 + 1e-6


def test_a_view_of_the_whole_is_the_input() -> None:
    maps = np.array([[[1, 0, 0], [0, 1, 0]]], np.float32)
    views = Views(maps, np.ones(1, np.float32), np.zeros(1, np.float32))
    images = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(views.of(images, np.zeros(1, np.int64)), images, atol=1e-5, rtol=1e-5)


def test_epoch_zero_and_no_augmentation_see_the_inputs_themselves() -> None:
    samples = small_samples(8)
    normalise = Normaliser.of(SPEC, CPU)
    groups = [np.arange(5), np.arange(5, 8)]
    expected = normalise(samples.pixels)
    for augment, epoch in ((True, 0), (False, 3)):
        feed = Feed(samples, normalise, 0, augment, upright=True)
        assert torch.equal(torch.cat(list(feed.batches(groups, epoch))), expected)
    feed = Feed(samples, normalise, 0, augment=True, upright=True)
    assert not torch.equal(torch.cat(list(feed.batches(groups, 3))), expected)


def test_upside_down() -> None:
    pixels = small_samples(1).pixels[0]
    assert np.array_equal(upside_down(pixels), np.rot90(pixels, 2))


def test_more_inputs_than_can_be_cached_run_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = small_samples(8)
    feed = Feed(samples, Normaliser.of(SPEC, CPU), 0, augment=True, upright=True)
    first = torch.nn.AvgPool2d(2)
    assert isinstance(feed_after(feed, first, tmp_path, lambda done: None), CachedFeed)
    one_view = 8 * 3 * (SIDE // 2) ** 2 * 4
    monkeypatch.setattr("training.finetune.feed.CACHE_BYTES", one_view - 1)
    found = feed_after(feed, first, tmp_path, lambda done: None)
    assert isinstance(found, ThroughFeed)
    groups = [np.arange(8)]
    (batch,) = found.batches(groups, 2)
    (view,) = feed.batches(groups, 2)
    assert torch.equal(batch, first(view))


def test_views_are_as_many_as_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed(small_samples(8), Normaliser.of(SPEC, CPU), 0, augment=True, upright=True)
    one_view = 8 * 3 * (SIDE // 2) ** 2 * 4 + 128  # and the header of the file
    monkeypatch.setattr("training.finetune.feed.CACHE_BYTES", 2 * one_view)
    found = CachedFeed.fill(feed, torch.nn.AvgPool2d(2), tmp_path, lambda done: None)
    assert len(found.files) == 2
