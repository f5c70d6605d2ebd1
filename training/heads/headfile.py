"""Head <-> bytes: safetensors arrays and one JSON document. Never pickle. Knows no disk and no store.

Layout: the arrays `weights`, `bias`, `means`, `directions`, `knots`, `values`; the metadata key `headstart`
holds the JSON document. Bytes are untrusted: all that prediction relies on is checked before a head exists.
"""

import json
from dataclasses import fields
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from training.errors import ExtractorMismatchError, HeadFileError
from training.heads.head import Head
from training.heads.report import Report
from training.heads.transform import TRANSFORM
from training.heads.typicality import Typicality

FORMAT_VERSION = 1
METADATA_KEY = "headstart"
MAX_HEADER_BYTES = 64 * 1024 * 1024
LENGTH_BYTES = 8
ARRAYS = {
    "weights": "float32",
    "bias": "float64",
    "means": "float32",
    "directions": "float32",
    "knots": "float64",
    "values": "float64",
}
Array = npt.NDArray[Any]


def save_head(head: Head) -> bytes:
    """Serialise a head; the same head always gives the same bytes."""
    document = {
        "format_version": FORMAT_VERSION,
        "classes": list(head.classes),
        "dim": head.dim,
        "extractor_digest": head.extractor_digest,
        "transform": head.transform,
        "temperature": head.temperature,
        "unknown_threshold": head.unknown_threshold,
        "parent_version": head.parent_version,
        "library_version": head.library_version,
        "report": head.report.as_dict(),
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    arrays = {
        "weights": head.weights,
        "bias": head.bias,
        "means": head.typicality.means,
        "directions": head.typicality.directions,
        "knots": head.typicality.knots,
        "values": head.typicality.values,
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
    if document.get("format_version") != FORMAT_VERSION:
        found = document.get("format_version")
        raise HeadFileError(f"head file: expected format version {FORMAT_VERSION}, got {found!r}")
    return document


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _head(document: dict[str, Any], arrays: dict[str, Array]) -> Head:
    classes = tuple(_typed(name, "classes", str) for name in _typed(document["classes"], "classes", list))
    dim = _typed(document["dim"], "dim", int)
    _check_arrays(arrays, len(classes), dim)
    parent = document["parent_version"]
    head = Head(
        classes=classes,
        dim=dim,
        extractor_digest=_typed(document["extractor_digest"], "extractor_digest", str),
        transform=_typed(document["transform"], "transform", str),
        weights=arrays["weights"],
        bias=arrays["bias"],
        temperature=_typed(document["temperature"], "temperature", float),
        typicality=Typicality(arrays["means"], arrays["directions"], arrays["knots"], arrays["values"]),
        unknown_threshold=float(_typed(document["unknown_threshold"], "unknown_threshold", float, int)),
        report=_report(_typed(document["report"], "report", dict)),
        parent_version=None if parent is None else _typed(parent, "parent_version", int),
        library_version=_typed(document["library_version"], "library_version", str),
    )
    _check_values(head)
    return head


def _check_arrays(arrays: dict[str, Array], classes: int, dim: int) -> None:
    if set(arrays) != set(ARRAYS):
        raise ValueError(f"expected the arrays {sorted(ARRAYS)}, got {sorted(arrays)}")
    rows = arrays["directions"].shape[0] if arrays["directions"].ndim else 0
    knots = (arrays["knots"].size,)
    square = (classes, dim)
    expected = dict(zip(ARRAYS, (square, (classes,), square, (rows, dim), knots, knots), strict=True))
    for name, array in arrays.items():
        if array.shape != expected[name] or array.dtype != np.dtype(ARRAYS[name]):
            raise ValueError(
                f"{name}: expected {ARRAYS[name]} {expected[name]}, got {array.dtype} {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite values, got NaN or infinity")


def _check_values(head: Head) -> None:
    curve = head.typicality
    checks = {
        "classes: expected at least two, ascending and non-empty": len(head.classes) >= 2
        and head.classes[0] != ""
        and all(one < other for one, other in zip(head.classes, head.classes[1:], strict=False)),
        "dim: expected at least 1": head.dim >= 1,
        f"transform: expected {TRANSFORM}, got {head.transform!r}": head.transform == TRANSFORM,
        "temperature: expected a positive finite number": 0 < head.temperature < float("inf"),
        "unknown_threshold: expected 0 to 1": 0 <= head.unknown_threshold <= 1,
        "knots: expected at least two, ascending": len(curve.knots) >= 2
        and bool((np.diff(curve.knots) > 0).all()),
        "values: expected 0 to 1, descending": bool(
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
    lists = ("per_class", "regularisation_tried", "learning", "warnings")
    for name in lists:
        for item in _typed(values[name], name, list):
            _typed(item, name, dict)
    for name in ("confusion", "timings_ms"):
        _typed(values[name], name, dict)
    return Report(**{**values, **{name: tuple(values[name]) for name in lists}})


def _typed(value: Any, name: str, *kinds: type) -> Any:
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"{name}: expected {kinds[0].__name__}, got {type(value).__name__}")
    return value
