"""Requests that cannot be read: the status, the code and the place of what is wrong."""

from typing import Any

import anyio
import pytest
from starlette.requests import Request
from starlette.types import Message

from service.errors import ApiError
from service.ingest import read_batch
from tests.service.ingest.asking import FORM, JSON, SMALL, faults, form, part, read, read_json


def refusal(*args: Any, **kwargs: Any) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        read(*args, **kwargs)
    return caught.value.status, caught.value.code


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"a": 1} x',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"a\\"": 1, "a\\"": 2}',
        b'{"x": [{"b": {"c": 1, "c": 1}}]}',
        b'{"input": "\xff"}',
        b'{"input": "\\ud800"}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"input": ' + b"[" * 2000 + b"]" * 2000 + b"}",
        b"[" * 900_000,
        b'{"a":' * 150_000,
        b'"unclosed',
        b"'single'",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_malformed_json(body: bytes) -> None:
    assert refusal(body, JSON) == (400, "malformed_json")


def test_json_strings_may_hold_colons_quotes_and_backslashes() -> None:
    options = {"note": 'a": {"b": 1, "b": "\\', "\\": ["\\\\", '\\"', {"x:": ":"}]}
    assert read_json(options).options == options


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ([], "body"),
        ("text", "body"),
        (None, "body"),
        ({"examples": {}}, "examples"),
        ({"examples": None}, "examples"),
        ({"examples": ["AAAA"]}, "examples[0]"),
        ({"examples": [{"label": "cat"}]}, "examples[0].input"),
        ({"examples": [{"input": 3, "label": "cat"}]}, "examples[0].input"),
        (
            {"examples": [{"input": "AAAA", "label": "cat"}, {"input": "AAAA", "label": 3}]},
            "examples[1].label",
        ),
        ({"examples": [{"input": "AAAA"}]}, "examples[0].label"),
        ({"examples": [{"input": "AAAA", "label": "cat", "id": 7}]}, "examples[0].id"),
        ({"examples": [{"input": "AAAA", "label": "cat", "lable": 7}]}, "examples[0].lable"),
        ({"examples": [{"input": "AAAA", "label": ""}]}, "examples[0].label"),
        ({"examples": [{"input": "AAAA", "labels": []}]}, "examples[0].labels"),
        ({"examples": [{"input": "AAAA", "labels": "cat"}]}, "examples[0].labels"),
        ({"examples": [{"input": "AAAA", "labels": None}]}, "examples[0].labels"),
        ({"examples": [{"input": "AAAA", "labels": ["cat", 3]}]}, "examples[0].labels[1]"),
        ({"examples": [{"input": "AAAA", "labels": ["cat", ["dog"]]}]}, "examples[0].labels[1]"),
        ({"examples": [{"input": "AAAA", "labels": ["cat", "__x"]}]}, "examples[0].labels[1]"),
        ({"examples": [{"input": "AAAA", "labels": ["cat"], "label": "cat"}]}, "examples[0].labels"),
        ({"examples": [{"input": "AAAA", "labels": ["cat"], "label": None}]}, "examples[0].labels"),
    ],
)
def test_wrong_types_name_their_path(document: Any, param: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_json(document)
    assert (caught.value.status, caught.value.param) == (422, param)


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ({"input": 3}, "input"),
        ({"input": {"input": "AAAA"}}, "input"),
        ({"inputs": ["AAAA", 3]}, "inputs[1]"),
        ({"input": [{"input": "AAAA", "label": "cat"}]}, "input[0].label"),
        ({"input": "AAAA", "inputs": "AAAA"}, "inputs"),
    ],
)
def test_wrong_types_without_labels_name_their_path(document: Any, param: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_json(document, labelled=False)
    assert (caught.value.status, caught.value.param) == (422, param)


@pytest.mark.parametrize(
    "text",
    [
        "AAA",
        "A",
        "AA==A",
        "AAAA=",
        "AAAA==",
        "AAAA====",
        "AA AA",
        "é",
        "data:x",
        "data:;base64,?",
        "=",
        "\x00",
    ],
)
def test_a_bad_string_is_an_item_error(text: str) -> None:
    batch = read_json({"input": [text, "AAAA"]}, labelled=False)
    expected = [] if text == "AAA" else [(0, 422, "invalid_input")]
    assert faults(batch) == expected
    assert batch.inputs[-1].data == b"\0\0\0"


@pytest.mark.parametrize("text", ["", "data:,", "data:;base64,"])
def test_an_empty_string_is_an_empty_input(text: str) -> None:
    assert faults(read_json({"input": text}, labelled=False)) == [(0, 422, "empty_input")]


GOOD = form(part("cat", b"meow" * 100))


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (GOOD, "multipart/form-data"),
        (GOOD, "multipart/form-data; boundary="),
        (GOOD, f"multipart/form-data; boundary={'x' * 500}"),
        (GOOD, "multipart/form-data; boundary=other"),
        (b"", FORM),
        (b"nonsense", FORM),
        (GOOD[:-20], FORM),
        (GOOD[:30], FORM),
        (GOOD.replace(b"name=", b"nome="), FORM),
        (GOOD.replace(b"Content-Disposition", b"X"), FORM),
        (GOOD.replace(b"Content-Disposition", b"\x00"), FORM),
        (form(part("cat", b"x", extra=b"X: 1\r\n" * 100)), FORM),
        (form(part("c" * 200_000, b"x")), FORM),
    ],
)
def test_malformed_multipart(body: bytes, content_type: str) -> None:
    assert refusal(body, content_type) == (400, "malformed_multipart")


def test_every_truncation_of_a_form_is_malformed() -> None:
    end = GOOD.rindex(b"--") + 2
    for length in range(0, end, 7):
        assert refusal(GOOD[:length], FORM) == (400, "malformed_multipart")


def test_a_text_field_that_is_not_text_is_an_item_error() -> None:
    assert faults(read(form(part("cat", b"\xff\xd8", None)), FORM)) == [(0, 422, "invalid_input")]


def test_a_part_in_base64_transfer_encoding_is_refused_rather_than_misread() -> None:
    body = form(part("cat", b"AAAA", extra=b"Content-Transfer-Encoding: base64\r\n"))
    assert refusal(body, FORM) == (415, "unsupported_encoding")
    assert read(body.replace(b": base64", b": binary"), FORM).inputs[0].data == b"AAAA"


def test_a_query_label_with_multipart_is_refused() -> None:
    assert refusal(GOOD, FORM, label="cat") == (422, "label_not_allowed")


def test_a_raw_body_needs_a_label_only_if_labels_are_wanted() -> None:
    assert refusal(b"x") == (422, "label_required")
    assert read(b"x", labelled=False).total == 1


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "GZIP"])
def test_an_encoded_body_is_refused(coding: str) -> None:
    headers = {"content-encoding": coding}
    assert refusal(b"x", label="cat", headers=headers) == (415, "unsupported_encoding")
    assert read(b"x", label="cat", headers={"content-encoding": "identity"}).total == 1


@pytest.mark.parametrize("length", ["x", "-1", "1.5", "", "+3", "٣".encode().decode("latin-1")])
def test_a_malformed_content_length_is_refused(length: str) -> None:
    assert refusal(b"x", label="cat", headers={"content-length": length}) == (400, "malformed_request")


def test_a_client_that_leaves_half_way_is_an_incomplete_body() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def main() -> None:
        request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)
        await read_batch(request, SMALL, labelled=False)

    with pytest.raises(ApiError) as caught:
        anyio.run(main)
    assert (caught.value.status, caught.value.code) == (400, "incomplete_body")
