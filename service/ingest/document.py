"""A JSON body into inputs and options. Knows the two documented shapes; knows no option.

labelled    {"examples": [{"input": "...", "label": "cat", "id": "x"}, ...], ...options}
            ("labels": ["cat", "indoor"] instead of "label" for several)
unlabelled  {"input": "..." | ["...", {"input": "...", "id": "x"}, ...], ...options}   ("inputs" too)
"""

from collections.abc import Mapping
from typing import Any

import orjson

from service.errors import ApiError
from service.ingest.batch import BatchBuilder, too_many_inputs
from training.heads import NEGATIVE_LABEL

# What a body may hold for each input it may have: generous for three keys with their values, several labels
# among them, and far below where parsing a hostile body into Python objects would cost many times its size.
STRINGS_PER_INPUT = 16
TOKENS_PER_INPUT = 16
SPARE_VALUES = 1000
MAX_DEPTH = 1024  # orjson's own limit
DEPTH_SEARCH_BYTES = 1 << 16
EXAMPLE_KEYS = frozenset({"input", "label", "labels", "id"})
INPUT_KEYS = frozenset({"input", "id"})


def parse_json(body: bytes, max_inputs: int) -> dict[str, Any]:
    """Parse a body strictly into an object.

    Raises
    ------
    ApiError
        400 `malformed_json`: not JSON, not UTF-8, NaN, lone surrogates, too deep, or a key twice in one
        object; 413 `too_many_inputs` for more values than `max_inputs` inputs can need; 422
        `invalid_parameter` if it is no object.
    """
    skeleton = _skeleton(body, max_inputs)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _malformed(str(error)) from None
    # Every key is followed by a colon, so fewer keys than colons means that some were overwritten.
    if _count_keys(document) != skeleton.count(b":"):
        raise _malformed("a key occurs twice in one object")
    if not isinstance(document, dict):
        raise _wrong_type("body", "an object", document)
    return document


def gather_document(
    builder: BatchBuilder, document: Mapping[str, Any], *, labelled: bool, label: str | None
) -> dict[str, Any]:
    """Add the inputs of a document to a batch; returns the other keys.

    Raises
    ------
    ApiError
        422 with `param` naming the path of what is wrong; 413 `too_many_inputs`.
    """
    options = dict(document)
    if labelled:
        if "examples" in options:
            _gather_examples(builder, options.pop("examples"), label)
        return options
    if "input" in options and "inputs" in options:
        message = "`inputs` is another name of `input`: give one of them"
        raise ApiError(422, "invalid_parameter", message, param="inputs")
    for key in ("input", "inputs"):
        if key in options:
            _gather_inputs(builder, options.pop(key), key)
    return options


def _gather_examples(builder: BatchBuilder, examples: Any, label: str | None) -> None:
    for path, example in _listed(builder, examples, "examples"):
        if not isinstance(example, dict):
            raise _wrong_type(path, "an object with `input` and `label`", example)
        _check_keys(example, EXAMPLE_KEYS, path)
        key = "labels" if "labels" in example else "label"
        own = _labels_of(example, path) if key == "labels" else _label_of(example, path, label)
        builder.add_text(_text_of(example, path), own, _id_of(example, path), f"{path}.{key}")


def _gather_inputs(builder: BatchBuilder, inputs: Any, key: str) -> None:
    if isinstance(inputs, str):
        builder.add_text(inputs, None, None)
        return
    for path, item in _listed(builder, inputs, key):
        if isinstance(item, str):
            builder.add_text(item, None, None)
        elif isinstance(item, dict):
            _check_keys(item, INPUT_KEYS, path)
            builder.add_text(_text_of(item, path), None, _id_of(item, path))
        else:
            raise _wrong_type(path, "a string or an object with `input`", item)


def _listed(builder: BatchBuilder, items: Any, key: str) -> list[tuple[str, Any]]:
    if not isinstance(items, list):
        raise _wrong_type(key, "a list" if key == "examples" else "a string or a list", items)
    if len(items) > builder.room:
        raise too_many_inputs(builder.settings.max_inputs)
    return [(f"{key}[{index}]", item) for index, item in enumerate(items)]


def _label_of(item: Mapping[str, Any], path: str, default: str | None) -> str:
    label = item.get("label", default)
    if label is None:
        raise ApiError(422, "label_required", f"{path} has no label", param=f"{path}.label")
    if not isinstance(label, str):
        raise _wrong_type(f"{path}.label", "a string", label)
    return label


def _labels_of(item: Mapping[str, Any], path: str) -> tuple[str, ...]:
    where, labels = f"{path}.labels", item["labels"]
    if "label" in item:
        message = f"{path} has both `label` and `labels`: give one of them"
        raise ApiError(422, "invalid_parameter", message, param=where)
    if not isinstance(labels, list):
        raise _wrong_type(where, "a list of strings", labels)
    if not labels:
        message = f"{where} is empty; an input of none of the classes has the label {NEGATIVE_LABEL}"
        raise ApiError(422, "label_required", message, param=where)
    for place, label in enumerate(labels):
        if not isinstance(label, str):
            raise _wrong_type(f"{where}[{place}]", "a string", label)
    return tuple(labels)


def _text_of(item: Mapping[str, Any], path: str) -> str:
    if "input" not in item:
        raise ApiError(422, "invalid_parameter", f"{path} has no `input`", param=f"{path}.input")
    text = item["input"]
    if not isinstance(text, str):
        raise _wrong_type(f"{path}.input", "a string: data URI, base64 or URL", text)
    return text


def _id_of(item: Mapping[str, Any], path: str) -> str | None:
    id = item.get("id")
    if id is not None and not isinstance(id, str):
        raise _wrong_type(f"{path}.id", "a string", id)
    return id


def _check_keys(item: Mapping[str, Any], known: frozenset[str], path: str) -> None:
    for key in item:
        if key not in known:
            expected = ", ".join(sorted(known))
            message = f"{path} has an unknown key {key[:64]!r}; known are {expected}"
            raise ApiError(422, "invalid_parameter", message, param=f"{path}.{key[:64]}")


def _skeleton(body: bytes, max_inputs: int) -> bytes:
    """What is outside the strings of a body, which is short unless someone means harm."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    if plain.count(b'"') > 2 * (STRINGS_PER_INPUT * max_inputs + SPARE_VALUES):
        raise _too_much(_outside_strings(plain[:DEPTH_SEARCH_BYTES]), max_inputs)
    skeleton = _outside_strings(plain)
    tokens = sum(skeleton.count(mark) for mark in (b",", b"[", b"{"))
    if tokens > TOKENS_PER_INPUT * max_inputs + SPARE_VALUES + MAX_DEPTH:
        raise _too_much(skeleton[:DEPTH_SEARCH_BYTES], max_inputs)
    return skeleton


def _outside_strings(plain: bytes) -> bytes:
    outside: list[bytes] = []
    start = 0
    while (opening := plain.find(b'"', start)) >= 0:
        outside.append(plain[start:opening])
        closing = plain.find(b'"', opening + 1)
        start = closing + 1 if closing >= 0 else len(plain)
    return b"".join([*outside, plain[start:]])


def _too_much(skeleton: bytes, max_inputs: int) -> ApiError:
    """The error for more values than any request needs; too deep, if that is what it is near its start."""
    depth = 0
    for byte in skeleton:
        depth += (byte in b"[{") - (byte in b"]}")
        if depth > MAX_DEPTH:
            return _malformed("nested too deeply")
    message = f"the body holds more values than {max_inputs} inputs have, which is the limit"
    return ApiError(413, "too_many_inputs", message)


def _count_keys(document: Any) -> int:
    count = 0
    pending = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            count += len(value)
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return count


def _malformed(reason: str) -> ApiError:
    return ApiError(400, "malformed_json", f"the body is not valid JSON: {reason}")


def _wrong_type(path: str, expected: str, found: Any) -> ApiError:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    message = f"{path} must be {expected}, got {names.get(type(found), 'a number')}"
    return ApiError(422, "invalid_parameter", message, param=path)
