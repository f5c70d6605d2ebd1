"""Head <-> bytes: safetensors arrays and one JSON document. Never pickle. Knows no disk and no store.

Layout: the arrays of `ARRAYS`; the metadata key `headstart` holds the JSON document. Bytes are untrusted: all
that prediction relies on is checked before a head exists.
"""

import json
from dataclasses import asdict, fields
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from training.errors import ExtractorMismatchError, HeadFileError
from training.heads.calibration import Calibration
from training.heads.head import Head
from training.heads.layers import EMBEDDING, Layer, total_dim
from training.heads.options import SINGLE_LABEL, TASKS
from training.heads.report import Report
from training.heads.transform import TRANSFORMS
from training.heads.typicality import Typicality

FORMAT_VERSION = 2
WITHOUT_LAYERS = 1  # the version before heads had layers: they use an embedding that is the whole row
METADATA_KEY = "headstart"
MAX_HEADER_BYTES = 64 * 1024 * 1024
LENGTH_BYTES = 8
ARRAYS = {
    "weights": "float32",
    "bias": "float64",
    "slope": "float64",
    "offset": "float64",
    "mean": "float32",
    "directions": "float32",
    "basis": "float32",
    "origin": "float64",
    "centers": "float64",
    "log_range": "float64",
    "values": "float64",
}
Array = npt.NDArray[Any]


def save_head(head: Head) -> bytes:
    """Serialise a head; the same head always gives the same bytes."""
    document = {
        "format_version": FORMAT_VERSION,
        "task": head.task,
        "classes": list(head.classes),
        "negatives": head.negatives,
        "width": head.width,
        "layers": [asdict(layer) for layer in head.layers],
        "extractor_digest": head.extractor_digest,
        "transform": head.transform,
        "unknown_threshold": head.unknown_threshold,
        "parent_version": head.parent_version,
        "library_version": head.library_version,
        "report": head.report.as_dict(),
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    calibration, typicality = head.calibration, head.typicality
    arrays = {
        "weights": head.weights,
        "bias": head.bias,
        "slope": calibration.slope,
        "offset": calibration.offset,
        "mean": typicality.mean,
        "directions": typicality.directions,
        "basis": typicality.basis,
        "origin": typicality.origin,
        "centers": typicality.centers,
        "log_range": typicality.log_range,
        "values": typicality.values,
    }
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, {METADATA_KEY: text})


def load_head(data: bytes, *, extractor_digest: str | None = None) -> Head:
    """Read a head from bytes.

    Parameters
    ----------
    data : what `save_head` returned
    extractor_digest : the extractor that will be used; None to skip the check

    Raises
    ------
    HeadFileError
        If the bytes are not a complete, consistent head of a known format version.
    ExtractorMismatchError
        If the head was fitted on another extractor.
    """
    document = _document(data)
    try:
        arrays = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise HeadFileError(f"head file: expected safetensors arrays ({error})") from error
    try:
        head = _head(document, arrays)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise HeadFileError(f"head file: missing or wrong entry ({error!r})") from error
    if extractor_digest is not None and extractor_digest != head.extractor_digest:
        raise ExtractorMismatchError(
            f"head file: fitted on extractor {head.extractor_digest}, but the extractor is {extractor_digest}"
        )
    return head


def _document(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    if len(data) < LENGTH_BYTES or length > min(MAX_HEADER_BYTES, len(data) - LENGTH_BYTES):
        raise HeadFileError(
            f"head file: expected a header within {len(data)} bytes, got a length of {length}"
        )
    try:
        header = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + length], parse_constant=_refuse)
        document = json.loads(header["__metadata__"][METADATA_KEY], parse_constant=_refuse)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HeadFileError(
            f"head file: expected JSON metadata under {METADATA_KEY!r} ({error!r})"
        ) from error
    if not isinstance(document, dict):
        raise HeadFileError("head file: expected a JSON object")
    found = document.get("format_version")
    if isinstance(found, bool) or found not in (WITHOUT_LAYERS, FORMAT_VERSION):
        raise HeadFileError(f"head file: expected format version {FORMAT_VERSION} or earlier, got {found!r}")
    return _with_layers(document) if found == WITHOUT_LAYERS else document


def _with_layers(document: dict[str, Any]) -> dict[str, Any]:
    """A document of the version without layers as one of the version with them."""
    if not isinstance(document.get("report"), dict):
        raise HeadFileError("head file: missing or wrong entry (report)")
    width = document.get("dim")
    layers = [{"name": EMBEDDING, "start": 0, "stop": width}]
    report = {**document["report"], "layers": [EMBEDDING], "layers_tried": []}
    return {**document, "width": width, "layers": layers, "report": report}


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _head(document: dict[str, Any], arrays: dict[str, Array]) -> Head:
    classes = tuple(_typed(name, "classes", str) for name in _typed(document["classes"], "classes", list))
    task = _typed(document["task"], "task", str)
    if task not in TASKS:
        raise ValueError(f"task: expected one of {TASKS}, got {task!r}")
    negatives = document["negatives"]
    if not isinstance(negatives, bool):
        raise TypeError(f"negatives: expected bool, got {type(negatives).__name__}")
    layers = tuple(_layer(entry) for entry in _typed(document["layers"], "layers", list))
    columns, centers = len(classes) + negatives, len(classes) if task == SINGLE_LABEL else 0
    _check_arrays(arrays, columns, centers, total_dim(layers))
    parent = document["parent_version"]
    head = Head(
        task=task,
        classes=classes,
        negatives=negatives,
        width=_typed(document["width"], "width", int),
        layers=layers,
        extractor_digest=_typed(document["extractor_digest"], "extractor_digest", str),
        transform=_typed(document["transform"], "transform", str),
        weights=arrays["weights"],
        bias=arrays["bias"],
        calibration=Calibration(arrays["slope"], arrays["offset"], softmax=task == SINGLE_LABEL),
        typicality=Typicality(*(arrays[field.name] for field in fields(Typicality))),
        unknown_threshold=float(_typed(document["unknown_threshold"], "unknown_threshold", float, int)),
        report=_report(_typed(document["report"], "report", dict)),
        parent_version=None if parent is None else _typed(parent, "parent_version", int),
        library_version=_typed(document["library_version"], "library_version", str),
    )
    _check_values(head)
    return head


def _layer(entry: Any) -> Layer:
    values = _typed(entry, "layers", dict)
    name = _typed(values["name"], "layers", str)
    return Layer(name, *(_typed(values[key], "layers", int) for key in ("start", "stop")))


def _are_in_order(head: Head) -> bool:
    """Whether the layers follow each other within the row, each with a name and columns of its own."""
    ends = [0, *(end for layer in head.layers for end in (layer.start, layer.stop)), head.width]
    names = {layer.name for layer in head.layers}
    return (
        bool(head.layers)
        and len(names - {""}) == len(head.layers)
        and all(one <= other for one, other in pairwise(ends))
        and all(layer.dim > 0 for layer in head.layers)
    )


def _check_arrays(arrays: dict[str, Array], columns: int, classes: int, dim: int) -> None:
    if set(arrays) != set(ARRAYS):
        raise ValueError(f"expected the arrays {sorted(ARRAYS)}, got {sorted(arrays)}")
    directions, axes = _length(arrays["directions"], 0), _length(arrays["basis"], 1)
    expected = {
        "weights": (columns, dim),
        "bias": (columns,),
        "slope": (columns,),
        "offset": (columns,),
        "mean": (dim,),
        "directions": (directions, dim),
        "basis": (columns, axes),
        "origin": (axes,),
        # A head of one example per class has no centres.
        "centers": (classes if axes else 0, axes),
        "log_range": (2,),
        "values": (arrays["values"].size,),
    }
    for name, array in arrays.items():
        if array.shape != expected[name] or array.dtype != np.dtype(ARRAYS[name]):
            raise ValueError(
                f"{name}: expected {ARRAYS[name]} {expected[name]}, got {array.dtype} {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite values, got NaN or infinity")


def _length(array: Array, axis: int) -> int:
    return int(array.shape[axis]) if array.ndim == 2 else 0


def _check_values(head: Head) -> None:
    curve = head.typicality
    checks = {
        "classes: expected at least two, ascending and non-empty": len(head.classes) >= 2
        and head.classes[0] != ""
        and all(one < other for one, other in pairwise(head.classes)),
        "negatives: expected none in a multi-label head": head.task == SINGLE_LABEL or not head.negatives,
        "layers: expected different ones within the width, in order": _are_in_order(head),
        f"transform: expected one of {TRANSFORMS}, got {head.transform!r}": head.transform in TRANSFORMS,
        "slope: expected positive numbers": bool((head.calibration.slope > 0).all()),
        "unknown_threshold: expected 0 to 1": 0 <= head.unknown_threshold <= 1,
        "log_range: expected two ascending numbers": bool(curve.log_range[0] < curve.log_range[1]),
        "values: expected at least two of 0 to 1, descending": len(curve.values) >= 2
        and bool(
            (np.diff(curve.values) <= 0).all() and (curve.values >= 0).all() and (curve.values <= 1).all()
        ),
    }
    for message, passed in checks.items():
        if not passed:
            raise ValueError(message)


def _report(values: dict[str, Any]) -> Report:
    names = {field.name for field in fields(Report)}
    if set(values) != names:
        raise ValueError(f"report: expected {sorted(names)}, got {sorted(values)}")
    lists = ("per_class", "tried", "layers_tried", "learning", "warnings")
    for name in lists:
        for item in _typed(values[name], name, list):
            _typed(item, name, dict)
    for name in ("confusion", "timings_ms"):
        _typed(values[name], name, dict)
    layers = tuple(_typed(name, "layers", str) for name in _typed(values["layers"], "layers", list))
    return Report(**{**values, **{name: tuple(values[name]) for name in lists}, "layers": layers})


def _typed(value: Any, name: str, *kinds: type) -> Any:
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"{name}: expected {kinds[0].__name__}, got {type(value).__name__}")
    return value
