"""The network behind an extractor folder, with its weights, and the weights of one that was trained further.

Knows the catalogue through `training.backbones`. Trains nothing.
"""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from training.backbones import CATALOGUE, Entry, WeightsChoice, load_backbone
from training.backbones.backbone import Backbone
from training.backbones.catalogue import RANDOM_SOURCE
from training.classifier import Classifier
from training.errors import FinetuneError
from training.manifest import FILES, Manifest


def load_network(folder: Path, weights_path: Path | None = None) -> Backbone:
    """The network that an extractor was exported from.

    Parameters
    ----------
    folder : an extractor folder
    weights_path : the weights file, for an extractor of another version that was exported from one

    Raises
    ------
    ManifestError
        The folder is not an extractor folder.
    WeightsError
        The weights cannot be had.
    FinetuneError
        The weights are not those of the extractor, or the network is not of the catalogue.
    """
    manifest = Manifest.load(folder)
    entry = _entry_of_architecture(manifest.architecture)
    if FILES.weights in manifest.files:
        manifest.verify_files(folder)
        start = load_backbone(entry.name, WeightsChoice(random_seed=0))
        _fill(start.module, folder / FILES.weights)
        return replace(
            start, name=manifest.name, weights=manifest.weights, classifier=Classifier.load(folder)
        )
    backbone = load_backbone(entry.name, _choice_of(manifest, entry, weights_path))
    if backbone.weights.sha256 != manifest.weights.sha256:
        raise FinetuneError(
            f"the weights found for {manifest.name} have sha256 {backbone.weights.sha256}, its extractor was "
            f"exported from {manifest.weights.sha256}. Give the weights file that it was exported from"
        )
    return backbone


def random_network(backbone: Backbone, seed: int) -> Backbone:
    """The same architecture with random weights."""
    entry = _entry_of_architecture(backbone.architecture)
    return replace(load_backbone(entry.name, WeightsChoice(random_seed=seed)), preprocess=backbone.preprocess)


def _fill(module: torch.nn.Module, path: Path) -> None:
    try:
        module.load_state_dict(load_file(path))
    except (RuntimeError, OSError, SafetensorError) as error:
        raise FinetuneError(f"{path} does not fit the network: {error}") from error


def _choice_of(manifest: Manifest, entry: Entry, weights_path: Path | None) -> WeightsChoice:
    source = manifest.weights.source
    if source.startswith(RANDOM_SOURCE):
        return WeightsChoice(random_seed=int(source.removeprefix(RANDOM_SOURCE)))
    if weights_path is None and source != entry.source:
        raise FinetuneError(
            f"{manifest.name} was exported from {source}: give that weights file, it is not in the folder"
        )
    return WeightsChoice(weights_path)


def _entry_of_architecture(architecture: str) -> Entry:
    for entry in CATALOGUE.values():
        if entry.architecture == architecture:
            return entry
    raise FinetuneError(f"the catalogue has no network of the architecture {architecture!r}")
