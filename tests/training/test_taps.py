"""Taps are the pooled stages of the network, and what they are on the source follows from its weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from service.embedding.extractor import Extractor
from training.backbones import CATALOGUE, WeightsChoice, load_backbone
from training.backbones.backbone import Backbone
from training.backbones.moments import Moments
from training.backbones.taps import Tapped
from training.heads import AUTO, FitOptions, fit_head
from training.image_folder import images_under
from training.source import Channels, SourceStatistics

LITE0 = "efficientnet-lite0"
KEEP_NO_STATISTICS = {"vgg16", "vgg19", "convnext-tiny", "vit-b-16"}
# Of networks whose stages end in sums; the others go through ReLUs, where moments are approximate.
EXACT = (LITE0, "efficientnet-b0", "efficientnet-v2-s")
IMAGES = 40
LESIONS = 45


def random_backbone(name: str) -> Backbone:
    return load_backbone(name, WeightsChoice(random_seed=0))


@pytest.fixture(scope="module", params=CATALOGUE)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return random_backbone(request.param)


@pytest.mark.long
def test_taps_come_with_the_embedding_in_one_pass(backbone: Backbone) -> None:
    spec = backbone.preprocess
    pixels = torch.randn(
        (1, 3, spec.crop_height, spec.crop_width), generator=torch.Generator().manual_seed(0)
    )
    seen: dict[str, torch.Tensor] = {}
    for point in backbone.taps:
        backbone.module.get_submodule(point.path).register_forward_hook(
            lambda module, inputs, output, name=point.name: seen.update({name: output.clone()})
        )
    with torch.inference_mode():
        alone = backbone.module(pixels)
        first = {name: output.numpy() for name, output in seen.items()}
        embedding, taps = Tapped(backbone.module, backbone.taps)(pixels)
    assert torch.equal(embedding, alone)
    assert taps.shape == (1, sum(point.dim for point in backbone.taps))
    axes = {4: (2, 3), 3: (1,)}
    expected = [first[point.name].mean(axis=axes[first[point.name].ndim]) for point in backbone.taps]
    np.testing.assert_allclose(taps.numpy(), np.concatenate(expected, axis=1), rtol=1e-3, atol=1e-5)


def test_statistics_of_the_source_are_there_where_batches_were_normalised(
    backbone: Backbone, tmp_path: Path
) -> None:
    found = backbone.source_statistics()
    if backbone.name in KEEP_NO_STATISTICS:
        assert found is None
        return
    assert found is not None
    assert {tap: len(channels.std) for tap, channels in found.taps.items()} == {
        point.name: point.dim for point in backbone.taps
    }
    found.save(tmp_path)
    loaded = SourceStatistics.load(tmp_path)
    assert loaded is not None
    for tap, channels in found.taps.items():
        np.testing.assert_array_equal(loaded.taps[tap].mean, channels.mean)
        np.testing.assert_array_equal(loaded.taps[tap].std, channels.std)


def on_its_own_source(backbone: Backbone) -> dict[str, torch.Tensor]:
    """Channel means of the stages when every normalisation sees exactly what it was trained on."""
    generator = torch.Generator().manual_seed(1)
    for module in backbone.module.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train()
            module.weight.data = 0.5 + torch.rand(module.weight.shape, generator=generator)
            module.bias.data = torch.randn(module.bias.shape, generator=generator)
    side = backbone.preprocess.crop_height if backbone.name == "inception-v3" else 96
    pixels = torch.randn((6, 3, side, side), generator=generator)
    with torch.inference_mode():
        taps = Tapped(backbone.module, backbone.taps)(pixels)[1]
    return dict(
        zip(
            (point.name for point in backbone.taps),
            taps.mean(dim=0).split([point.dim for point in backbone.taps]),
            strict=True,
        )
    )


@pytest.mark.long
@pytest.mark.parametrize("name", [*EXACT, "resnet50", "inception-v3"])
def test_statistics_are_those_of_a_network_on_its_source(name: str) -> None:
    backbone = random_backbone(name)
    means = on_its_own_source(backbone)
    statistics = backbone.source_statistics()
    assert statistics is not None
    for tap, channels in statistics.taps.items():
        error = np.abs(means[tap].numpy() - channels.mean) / channels.std
        if name in EXACT:
            assert error.max() < 1e-3, tap
        else:
            assert error.mean() < 0.1, tap


def test_a_rectified_normal_variable() -> None:
    mean, std = torch.tensor([-2.0, 0.0, 0.7, 3.0], dtype=torch.float64), torch.tensor([1.0, 0.5, 2.0, 1.0])
    sample = mean + std * torch.randn((400_000, 4), generator=torch.Generator().manual_seed(0))
    found = Moments(mean, std.double() ** 2).rectified()
    np.testing.assert_allclose(found.mean, sample.relu().mean(dim=0), atol=0.01)
    np.testing.assert_allclose(found.variance, sample.relu().var(dim=0), atol=0.02)


def test_distance_is_in_deviations_of_the_source() -> None:
    channels = Channels(np.array([1, -1], np.float32), np.array([2, 0.5], np.float32))
    assert channels.distance(np.array([[1.0, -1.0]])) == 0
    assert channels.distance(np.array([[2.0, -1.0], [4.0, -1.0]])) == pytest.approx(1 / np.sqrt(2))


def test_taps_tell_lesions_apart_better(lite0_folder: Path, data_root: Path) -> None:
    """Mean of five supports of 20 of each class, asked about 25 others of each."""
    extractor = Extractor.load(lite0_folder)
    folders = sorted(path for path in (data_root / "ham10000").iterdir() if path.is_dir())
    paths = [path for folder in folders for path in images_under(folder)[:LESIONS]]
    rows = np.concatenate([extractor.embed([extractor.decode(path.read_bytes())]) for path in paths])
    labels = np.repeat([folder.name for folder in folders], LESIONS)
    right: dict[str, list[float]] = {"embedding": [], "all": [], "auto": []}
    for seed in range(5):
        place = np.concatenate([np.random.default_rng(seed).permutation(LESIONS) for _ in folders])
        known = place < 20
        for name, layers in (
            ("embedding", ("embedding",)),
            ("all", (*extractor.layer_dims,)),
            ("auto", AUTO),
        ):
            head = fit_head(
                rows[known],
                labels[known].tolist(),
                extractor_digest=extractor.digest,
                options=FitOptions(layers=layers),
                layer_dims=extractor.layer_dims,
            )
            right[name].append(float(np.mean(np.array(head.predict(rows[~known]).labels) == labels[~known])))
    gains = {name: np.mean(values) - np.mean(right["embedding"]) for name, values in right.items()}
    assert gains["all"] > 0.02
    assert gains["auto"] > 0.02


def test_photographs_are_nearer_to_the_source_than_lesions(lite0_folder: Path, data_root: Path) -> None:
    statistics = SourceStatistics.load(lite0_folder)
    assert statistics is not None
    extractor = Extractor.load(lite0_folder)
    assert list(statistics.taps) == [tap.name for tap in extractor.manifest.taps]
    start = extractor.dim
    distances = {}
    for name in ("imagenet_sample", "cats_dogs", "ham10000"):
        paths = images_under(data_root / name)
        chosen = paths[:: len(paths) // IMAGES][:IMAGES]
        rows = np.concatenate([extractor.embed([extractor.decode(path.read_bytes())]) for path in chosen])
        stage2 = rows[:, start : start + extractor.manifest.taps[0].dim]
        distances[name] = statistics.taps["stage2"].distance(stage2)
    assert distances["imagenet_sample"] < 0.15
    assert distances["cats_dogs"] < 0.25
    assert distances["ham10000"] > 0.4
