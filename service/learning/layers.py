"""Layers that a request asks for, and those that a version uses. Knows no fit and no HTTP but the errors."""

from dataclasses import asdict, replace

from service.embedding.extractor import Extractor
from service.errors import ApiError
from service.store import VersionRow
from training.heads import AUTO, FitOptions, Head
from training.heads.layers import EMBEDDING, layers_of


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


def on_rows(head: Head, extractor: Extractor) -> Head:
    """A head for the rows of its extractor: one that was fitted to embeddings alone knows of no wider row.

    Raises
    ------
    ValueError
        Its layers are not some of the extractor's.
    """
    there = layers_of(extractor.layer_dims)
    if not set(head.layers) <= set(there):
        expected, found = ([asdict(layer) for layer in layers] for layers in (there, head.layers))
        raise ValueError(f"layers: expected some of {expected}, got {found}")
    return replace(head, width=extractor.width)


def layers_in(version: VersionRow) -> tuple[str, ...]:
    """The layers that a version uses; those of before there were taps say nothing of them."""
    return tuple(version.report.get("layers", (EMBEDDING,)))
