"""Layers that a request asks for, and those that a version uses. Knows no fit and no HTTP but the errors."""

from service.errors import ApiError
from service.extractor import Extractor
from service.store import VersionRow
from training.heads import AUTO, FitOptions
from training.heads.layers import EMBEDDING


def require_layers(extractor: Extractor, options: FitOptions | None) -> None:
    """Refuse, before anything is embedded, layers that an extractor does not give.

    Parameters
    ----------
    options : of the fit; None if nothing is fitted.

    Raises
    ------
    ApiError
        422: there is no such layer, or there are no taps to choose from.
    """
    wanted = () if options is None else options.layers
    there = ", ".join(extractor.layer_dims)
    if wanted == AUTO and not extractor.manifest.taps:
        message = f"extractor {extractor.name!r} has no taps to choose from: its layers are {there}"
        raise ApiError(422, "unknown_layer", message, param="layers")
    for name in () if wanted == AUTO else wanted:
        if name not in extractor.layer_dims:
            message = f"extractor {extractor.name!r} has no layer {name!r}: its layers are {there}"
            raise ApiError(422, "unknown_layer", message, param="layers")


def layers_in(version: VersionRow) -> tuple[str, ...]:
    """The layers that a version uses; those of before there were taps say nothing of them."""
    return tuple(version.report.get("layers", (EMBEDDING,)))
