"""From a name and a choice of weights to a network. Imports torch when it is called, not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.backbones.catalogue import WeightsChoice, entry_of
from training.errors import WeightsError

if TYPE_CHECKING:
    from training.backbones.backbone import Backbone


def load_backbone(name: str, choice: WeightsChoice | None = None) -> Backbone:
    """Build a network of the catalogue, cut before its last linear layer.

    Parameters
    ----------
    name : str
        A name of `CATALOGUE`.
    choice : WeightsChoice, optional
        Default: the catalogue's own weights, which come in a package or are downloaded by torchvision.

    Raises
    ------
    WeightsError
        Unknown name; weights that are missing, cannot be reached, are not the expected ones or do not fit;
        or the packages of the `export` extra are not installed.
    """
    entry, choice = entry_of(name), choice or WeightsChoice()
    try:
        from training.backbones.efficientnet_lite import load_efficientnet_lite
        from training.backbones.torchvision_models import load_torchvision
    except ImportError as error:
        raise WeightsError(
            f"{error}: networks are built with torch. Install requirements/export.txt"
        ) from error
    load = load_efficientnet_lite if entry.family == "efficientnet-lite" else load_torchvision
    return load(entry, choice)
