"""What a head of unknown origin must satisfy before it is kept, beyond what `load_head` asks for.

A file can be complete and consistent and still mean harm: numbers that overflow in a prediction, a report of
another shape, texts that no database holds. Knows no file and no database.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.errors import HeadFileError
from training.heads.head import Head
from training.heads.report import Report

LARGEST = 1e30  # of any number that a prediction comes across; a float32 ends at 3e38
LARGEST_INTEGER = 2**53  # that every reader of JSON takes
SHORTEST_RANGE = 1e-6  # of the logarithms of squared distances
MAX_COUNT = 2**31 - 1
MAX_DEPTH = 8
MAX_TEXT, MAX_NAME = 65_536, 64
SHARES = (
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "balanced_accuracy",
    "negatives_rejected",
    "calibration_error",
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_VERSION = re.compile(r"[0-9A-Za-z.+!-]+")


def inspect_head(head: Head) -> None:
    """Refuse a head that could not be served or described.

    Raises
    ------
    HeadFileError
        Its numbers could overflow in a prediction, or a text or its report is not as Headstart writes it.
    """
    if not _DIGEST.fullmatch(head.extractor_digest):
        raise HeadFileError("head file: extractor_digest: expected 64 hexadecimal digits")
    if len(head.library_version) > MAX_NAME or not _VERSION.fullmatch(head.library_version):
        raise HeadFileError("head file: library_version: expected a version number")
    if not _is_bounded(head):
        raise HeadFileError("head file: expected numbers that cannot overflow in a prediction")
    _check_report(head.report, head.classes)
    _require("layers", head.report.layers == tuple(layer.name for layer in head.layers))


def _is_bounded(head: Head) -> bool:
    """Whether all that a feature of unit length can lead to stays below `LARGEST`."""
    curve, calibration = head.typicality, head.calibration
    low, high = curve.log_range.tolist()
    with np.errstate(over="ignore", invalid="ignore"):
        scores = _lengths(head.weights)
        logits = calibration.slope * (scores + np.abs(head.bias)) + np.abs(calibration.offset)
        inside = scores @ np.abs(curve.basis.astype(np.float64))
        gaps = inside @ np.abs(curve.gap_slopes) + np.abs(curve.gap_offsets)
        offset = 1 + _lengths(curve.mean[None, :])
        along = _lengths(curve.directions) * offset
        numbers = (
            *(head.weights, head.bias, calibration.slope, curve.basis, curve.origin, curve.log_range),
            *(logits, gaps, offset**2, along**2, (inside + np.abs(curve.origin)) ** 2),
        )
        # A NaN is not below anything.
        bounded = all(bool((np.abs(array) < LARGEST).all()) for array in numbers)
    return bounded and high - low > SHORTEST_RANGE


def _lengths(vectors: Any) -> Any:
    return np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1))


def _check_report(report: Report, classes: Sequence[str]) -> None:
    _check_plain(report.as_dict(), "report", MAX_DEPTH)
    for name in ("examples", "held_out"):
        _require(name, _is_count(getattr(report, name)))
    for name in SHARES:
        _require(name, _is_share(getattr(report, name)))
    for name in ("regularisation", "slope", "unknown_threshold"):
        _require(name, _is_number(getattr(report, name)))
    _require("log_loss", report.log_loss is None or _is_number(report.log_loss))
    for name in ("task", "transform"):
        _require(name, isinstance(getattr(report, name), str))
    _require("forecast", report.forecast is None or isinstance(report.forecast, Mapping))
    _require("timings_ms", all(_is_number(value) for value in report.timings_ms.values()))
    _require("warnings", all(_is_warning(warning) for warning in report.warnings))
    _require("per_class", [row.get("label") for row in report.per_class] == list(classes))
    for row in report.per_class:
        _require("per_class", {"label", "examples", "precision", "recall"} <= set(row))
        _require("per_class", _is_count(row["examples"]))
        _require("per_class", _is_share(row["precision"]) and _is_share(row["recall"]))
    _require("confusion", report.confusion.get("labels") == list(classes))


def _check_plain(value: Any, name: str, depth: int) -> None:
    """JSON that every database and encoder takes: finite, not deep, no U+0000 and no lone surrogate."""
    if depth == 0:
        _require(name, False)
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_plain(key, name, depth - 1)
            _check_plain(item, name, depth - 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_plain(item, name, depth - 1)
    elif isinstance(value, str):
        _require(name, len(value) <= MAX_TEXT and not _UNSTORABLE.search(value))
    elif value is not None and not isinstance(value, bool):
        _require(name, _is_number(value))


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < (LARGEST if isinstance(value, float) else LARGEST_INTEGER)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def _is_share(value: Any) -> bool:
    return value is None or (_is_number(value) and 0 <= value <= 1)


def _is_warning(warning: Mapping[str, Any]) -> bool:
    return isinstance(warning.get("code"), str) and isinstance(warning.get("message"), str)


def _require(name: str, holds: bool) -> None:
    if not holds:
        raise HeadFileError(f"head file: report: {name} is not as Headstart writes it")
