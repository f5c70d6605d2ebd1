"""Weights into a network: from a file, or random. Verifies them; knows no particular network."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from training.backbones.catalogue import Entry, WeightsChoice
from training.errors import WeightsError
from training.manifest import FILES, Weights, sha256_of

Build = Callable[[], torch.nn.Module]


def load_weights(
    build: Build, entry: Entry, choice: WeightsChoice, default_file: Callable[[], Path]
) -> tuple[torch.nn.Module, Weights]:
    """Build a network with the chosen weights, in evaluation mode, without gradients.

    `default_file` gives the file of the catalogue's own weights; it is called only when they are wanted.

    Raises
    ------
    WeightsError
        The file is not what was expected, or does not fit the network.
    """
    if choice.random_seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(choice.random_seed)
            network = build()
        sha256 = _sha256_of_tensors(network)
    else:
        path = choice.path or default_file()
        sha256 = sha256_of(path)
        if choice.sha256 not in (None, sha256):
            raise WeightsError(f"{path.name}: expected sha256 {choice.sha256}, found {sha256}")
        network = build()
        _fill(network, path, entry)
    weights = Weights(choice.source(entry), sha256, _licence(entry, choice))
    return network.eval().requires_grad_(False), weights


def save_weights(network: torch.nn.Module, folder: Path) -> None:
    """Write `weights.safetensors`, so that the network can be trained further from the folder alone."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / FILES.weights)


def _fill(network: torch.nn.Module, path: Path, entry: Entry) -> None:
    """Load a state dict; weights_only, so that a pickle in the file cannot run code."""
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path.name} is not a file of weights (a state dict saved by torch)") from error
    if not isinstance(state, dict):
        raise WeightsError(f"{path.name}: expected a state dict, found {type(state).__name__}")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path.name} does not fit {entry.architecture}: {error}") from error


def _licence(entry: Entry, choice: WeightsChoice) -> str:
    if choice.random_seed is not None:
        return "none: random numbers"
    return entry.licence if choice.path is None else "as the file's origin says"


def _sha256_of_tensors(network: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
