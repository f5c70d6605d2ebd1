"""Frozen dataclasses as JSON and back, strictly: each key of the right type, none missing, none unknown.

Knows no particular dataclass.
"""

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from training.errors import ManifestError


def canonical_digest(value: Any) -> str:
    """sha256 (64 hex digits) of the canonical JSON of a dataclass: sorted keys, no whitespace, UTF-8."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """A dataclass as JSON's own types."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def read_typed(kind: Any, value: Any, key: str) -> Any:
    """JSON as the type `kind`, strictly. `key` is the dotted path for the message."""
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, key)
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin is Literal:
        if value in arguments and type(value) is type(arguments[0]):
            return value
        raise _wrong(key, "one of " + ", ".join(repr(choice) for choice in arguments), value)
    if origin is types.UnionType:  # int | None
        return None if value is None else read_typed(arguments[0], value, key)
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise _wrong(key, f"a list of {len(kinds)}", value)
        return tuple(
            read_typed(k, item, f"{key}[{i}]") for i, (k, item) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is Mapping and isinstance(value, dict):
        return {name: read_typed(arguments[1], item, f"{key}[{name!r}]") for name, item in value.items()}
    if kind is float and type(value) in (int, float):
        return float(value)
    if type(value) is kind:  # not isinstance: True is no whole number here
        return value
    raise _wrong(key, _spoken(kind), value)


def _read_dataclass(kind: Any, value: Any, key: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(key or "the manifest", "an object", value)
    hints = typing.get_type_hints(kind)
    prefix = f"{key}." if key else ""
    for name in hints:
        if name not in value:
            raise ManifestError(f"key {prefix}{name} is missing")
    for name in value:
        if name not in hints:
            raise ManifestError(f"key {prefix}{name} is unknown")
    return kind(**{name: read_typed(hint, value[name], prefix + name) for name, hint in hints.items()})


def _wrong(key: str, expected: str, found: Any) -> ManifestError:
    return ManifestError(f"key {key}: expected {expected}, found {json.dumps(found)[:80]}")


def _spoken(kind: Any) -> str:
    names = {str: "text", int: "a whole number", float: "a number"}
    return names.get(kind, "an object" if typing.get_origin(kind) is Mapping else "a list")
