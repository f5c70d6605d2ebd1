"""What OpenAPI cannot see in the signatures: the three forms of a body, and the errors of a route.

Knows the documentation only; `service.ingest` does the reading.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from service.schemas.errors import ErrorAnswer

PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
NOTHING: Mapping[str, Any] = MappingProxyType({})
ONE_INPUT: Mapping[str, Any] = MappingProxyType({"input": PIXEL})
BINARY = {"type": "string", "format": "binary"}
INPUT = {
    "type": "string",
    "format": "image-input",
    "description": "A data URI, base64 or, where allowed, an http(s) URL.",
}
LABEL = {
    "type": "string",
    "minLength": 1,
    "maxLength": 256,
    "description": "`__none__`: of none of the classes.",
}

REASONS = {
    400: "The request is malformed: its JSON, multipart or headers.",
    401: "There is no key, or not one that is valid.",
    403: "The key does not allow this, or the tenant has as much as it may have.",
    404: "There is no such head, version, example, extractor or job.",
    405: "The path does not have this method.",
    409: "It conflicts with the state of the head; the message says how.",
    413: "The body, one input or an image is larger than allowed.",
    415: "An input is not an image of a format that is read, or the encoding is not supported.",
    422: "A value is missing or out of bounds, or an input cannot be used.",
    429: "Too many requests of this key, or as many requests with inputs in progress as may be; `Retry-After`"
    " says when to try again.",
    500: "Something went wrong here; the log has the request id.",
    503: "Not ready, or the database cannot be reached; try again.",
    504: "The inputs were not embedded in the time that the request may take.",
}
INPUT_STATUSES = (400, 404, 405, 409, 413, 415, 422, 429, 500, 503, 504)
STATE_STATUSES = (400, 404, 405, 409, 413, 415, 422, 500, 503)


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented errors of a route."""
    return {status: {"model": ErrorAnswer, "description": REASONS[status]} for status in statuses}


def examples_body() -> dict[str, Any]:
    """The body of labelled examples, in its three forms."""
    item = {
        "type": "object",
        "required": ["input"],
        "oneOf": [{"required": ["label"]}, {"required": ["labels"]}],
        "properties": {
            "input": INPUT,
            "label": LABEL,
            "labels": {
                "type": "array",
                "items": LABEL,
                "minItems": 1,
                "description": "Instead of `label`, several of them; for a multi-label head.",
            },
            "id": {"type": "string", "maxLength": 512},
        },
    }
    document = {
        "type": "object",
        "required": ["examples"],
        "properties": {"examples": {"type": "array", "items": item}},
        "examples": [
            {"examples": [{"input": PIXEL, "label": "cat", "id": "a.png"}]},
            {"examples": [{"input": PIXEL, "labels": ["cat", "indoor"]}], "train": False},
            {"examples": [{"input": PIXEL, "label": "__none__"}], "train": False},
        ],
    }
    multipart = {
        "type": "object",
        "description": "The field name is the label. A zip with a folder for each class works too.",
        "additionalProperties": {"type": "array", "items": BINARY},
    }
    return _body(document, multipart)


def panel_body() -> dict[str, Any]:
    """The body of unlabelled inputs that may also name heads."""
    names = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    described = {**names, "description": "Names and patterns of heads; beside the inputs or in the query."}
    return inputs_body({"heads": described}, {"input": PIXEL, "heads": ["pets", "line1.*"]})


def lines_answer() -> dict[int | str, dict[str, Any]]:
    """The answer line by line, beside the one as a whole."""
    lines = {
        "schema": {"type": "string"},
        "example": '{"id": "a.jpg", "index": 0, ...}\n'
        '{"id": "b.jpg", "index": 1, "error": {"code": "truncated_image", "message": "..."}}\n'
        '{"summary": {"inputs": 2, "answered": 1, "rejected": 1, ...}}\n',
    }
    return {
        200: {
            "description": "As one JSON document or, with `Accept: application/x-ndjson`, a line for each"
            " input as soon as it is done, in no order: its answer or its `error`. The last line has the"
            " `summary`, or the `error` that ended the answer early; an answer without either is incomplete.",
            "content": {"application/x-ndjson": lines},
        }
    }


def inputs_body(
    options: Mapping[str, Any] = NOTHING, example: Mapping[str, Any] = ONE_INPUT
) -> dict[str, Any]:
    """The body of unlabelled inputs, in its three forms; in JSON with further keys."""
    item = {
        "anyOf": [
            INPUT,
            {
                "type": "object",
                "required": ["input"],
                "properties": {"input": INPUT, "id": {"type": "string", "maxLength": 512}},
            },
        ]
    }
    document = {
        "type": "object",
        "required": ["input"],
        "properties": {"input": {"anyOf": [INPUT, {"type": "array", "items": item}]}, **options},
        "example": dict(example),
    }
    multipart = {
        "type": "object",
        "description": "The field names do not matter.",
        "additionalProperties": {"type": "array", "items": BINARY},
    }
    return _body(document, multipart)


def json_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The body of a route that takes one small JSON object."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def head_file_body() -> dict[str, Any]:
    """The body that is a head file."""
    return {
        "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": BINARY}}},
    }


def file_answer(description: str) -> dict[int | str, dict[str, Any]]:
    """A file, or the word that the caller has it already."""
    headers = {
        "ETag": {"description": "sha256 of the file, in quotes.", "schema": {"type": "string"}},
        "Content-Disposition": {"description": "A name for the file.", "schema": {"type": "string"}},
    }
    content = {"application/octet-stream": {"schema": BINARY}}
    return {
        200: {"description": description, "content": content, "headers": headers},
        304: {"description": "The file has the `If-None-Match` of the request."},
    }


def input_answer() -> dict[int | str, dict[str, Any]]:
    """The bytes of an input, of the type that they show."""
    content = {"image/*": {"schema": BINARY}, "application/octet-stream": {"schema": BINARY}}
    return {200: {"description": "The bytes as they were posted.", "content": content}}


def _body(document: dict[str, Any], multipart: dict[str, Any]) -> dict[str, Any]:
    content = {
        "multipart/form-data": {"schema": multipart},
        "application/json": {"schema": document},
        "application/octet-stream": {"schema": BINARY},
        "image/*": {"schema": BINARY},
        "application/zip": {"schema": BINARY},
    }
    return {"requestBody": {"required": True, "content": content}}
