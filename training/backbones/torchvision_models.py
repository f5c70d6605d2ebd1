"""Networks of torchvision, with the preprocessing and the class names that their weights were made for."""

import urllib.error
from pathlib import Path
from typing import Any, Literal

import torch
from torchvision.models import get_model_builder, get_model_weights

from training.backbones.backbone import Backbone, take_classifier
from training.backbones.catalogue import Entry, WeightsChoice
from training.backbones.torchvision_taps import taps_of
from training.backbones.weights import load_weights
from training.errors import WeightsError
from training.manifest import Preprocess

# Only what the weights' own training implies; everything else is torchvision's default.
_BUILD_OPTIONS: dict[str, dict[str, Any]] = {
    # Its weights come from another library and expect its normalisation, which the network converts to.
    "inception_v3": {"transform_input": True, "init_weights": False},
}
_LEVELS = 255.0  # torchvision's mean and std are in units of 0 to 1


def load_torchvision(entry: Entry, choice: WeightsChoice) -> Backbone:
    """Build the network; see `training.backbones.load_backbone`."""
    published = _published(entry)
    network, weights = load_weights(lambda: _build(entry), entry, choice, lambda: _download(entry, published))
    classifier = take_classifier(network, tuple(published.meta["categories"]))
    spec, taps = preprocess_of(published), taps_of(entry.architecture)
    return Backbone(entry.name, entry.architecture, network, classifier, spec, weights, taps)


def preprocess_of(published: Any) -> Preprocess:
    """The preprocessing that an entry of a weights enum was made for, as a manifest says it."""
    transform = published.transforms()
    (short_side,), (crop,) = transform.resize_size, transform.crop_size
    interpolation: Literal["bilinear", "bicubic"] = transform.interpolation.value
    return Preprocess(
        resize="short_side",
        resize_short_side_px=short_side,
        crop_height=crop,
        crop_width=crop,
        interpolation=interpolation,
        mean=_scaled(transform.mean),
        std=_scaled(transform.std),
    )


def _scaled(values: Any) -> tuple[float, float, float]:
    # Rounded, for a manifest that reads 123.675 rather than 123.67499999999998.
    red, green, blue = (round(float(value) * _LEVELS, 6) for value in values)
    return red, green, blue


def _published(entry: Entry) -> Any:
    return get_model_weights(entry.architecture)[entry.weights.removeprefix("torchvision ")]


def _build(entry: Entry) -> torch.nn.Module:
    options = _BUILD_OPTIONS.get(entry.architecture, {})
    network: torch.nn.Module = get_model_builder(entry.architecture)(weights=None, **options)
    return network


def _download(entry: Entry, published: Any) -> Path:
    """The weights file in torch's own cache, downloaded on the first use and checked by its name's hash."""
    file_name: str = published.url.rsplit("/", 1)[-1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    hash_prefix = file_name.rsplit("-", 1)[-1].removesuffix(".pth")
    try:
        torch.hub.download_url_to_file(published.url, str(path), hash_prefix, progress=False)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"the weights of {entry.name} cannot be downloaded: {error}. Download {published.url} on a "
            f"machine that reaches it and run `headstart export {entry.name} --weights {file_name}`"
        ) from error
    return path
