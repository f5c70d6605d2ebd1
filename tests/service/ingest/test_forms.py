"""The same bytes arrive whichever form a client chooses."""

import base64
import zipfile
from urllib.parse import quote

import pytest

from service.errors import ApiError
from tests.service.ingest.asking import (
    CURL_DEFAULT,
    FORM,
    JSON,
    faults,
    form,
    make_zip,
    part,
    read,
    read_json,
    told,
)

IMAGE = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 8 + b"\r\n--a-bound\r\n\xff\xd9"
PLAIN = base64.b64encode(IMAGE).decode()
STRINGS = {
    "base64": PLAIN,
    "unpadded": PLAIN.rstrip("="),
    "url safe": base64.urlsafe_b64encode(IMAGE).decode(),
    "wrapped": base64.encodebytes(IMAGE).decode(),
    "data URI": f"data:image/jpeg;base64,{PLAIN}",
    "data URI, escaped": f"DATA:image/jpeg;name=a%2Cb;Base64,{quote(PLAIN, safe='')}",
    "data URI, unpadded": f"data:;base64,{PLAIN.rstrip('=')}",
    "data URI, percent": f"data:image/jpeg,{quote(IMAGE, safe='')}",
}


@pytest.mark.parametrize("text", STRINGS.values(), ids=STRINGS.keys())
def test_every_string_form_gives_the_bytes(text: str) -> None:
    labelled = read_json({"examples": [{"input": text, "label": "cat", "id": "x"}]})
    assert told(labelled) == [(0, IMAGE, "cat", "x")]
    assert told(read_json({"input": text}, labelled=False)) == [(0, IMAGE, None, None)]
    assert told(read(form(part("cat", text.encode(), None)), FORM)) == [(0, IMAGE, "cat", None)]


@pytest.mark.parametrize("content_type", [CURL_DEFAULT, "image/jpeg", "application/octet-stream", None])
def test_raw_body_of_any_other_type(content_type: str | None) -> None:
    assert told(read(IMAGE, content_type, label="cat")) == [(0, IMAGE, "cat", None)]
    assert told(read(IMAGE, content_type, labelled=False)) == [(0, IMAGE, None, None)]


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 16])
def test_multipart_field_name_is_the_label_however_it_is_cut(chunk_bytes: int) -> None:
    body = form(part("cat", IMAGE), part("dog", b"woof", "b.jpg"))
    batch = read(body, FORM, chunk_bytes=chunk_bytes)
    assert told(batch) == [(0, IMAGE, "cat", "a.jpg"), (1, b"woof", "dog", "b.jpg")]
    unlabelled = read(body, FORM, labelled=False, chunk_bytes=chunk_bytes)
    assert [item.label for item in unlabelled.inputs] == [None, None]


def test_multipart_part_with_a_type_but_no_file_name_is_content() -> None:
    blob = part("cat", IMAGE, None, b"Content-Type: application/octet-stream\r\n")
    assert told(read(form(blob), FORM)) == [(0, IMAGE, "cat", None)]


def test_multipart_names_are_utf8_and_unescaped_as_browsers_escape_them() -> None:
    batch = read(form(part("Käse %22alt%22", b"x", "ä.jpg")), FORM)
    assert told(batch) == [(0, b"x", 'Käse "alt"', "ä.jpg")]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_folder_is_the_label(method: int) -> None:
    files = {"pets/cat/a.jpg": IMAGE, "pets/dog/": b"", "pets/dog/b.jpg": b"woof"}
    expected = [(0, IMAGE, "cat", "pets/cat/a.jpg"), (1, b"woof", "dog", "pets/dog/b.jpg")]
    data = make_zip(files, method)
    assert told(read(data)) == expected
    assert told(read(data, "application/zip")) == expected
    assert told(read(form(part("whatever", data, "pets.zip")), FORM)) == expected
    unlabelled = read(data, labelled=False)
    assert [(item.data, item.label) for item in unlabelled.inputs] == [(IMAGE, None), (b"woof", None)]


def test_zip_without_folders_takes_the_field_name_or_the_query() -> None:
    data = make_zip({"a.jpg": IMAGE, "b.jpg": b"2"})
    assert [item.label for item in read(form(part("cat", data, "cats.zip")), FORM).inputs] == ["cat"] * 2
    assert [item.label for item in read(data, label="cat").inputs] == ["cat"] * 2
    with pytest.raises(ApiError) as caught:
        read(data)
    assert (caught.value.status, caught.value.code) == (422, "label_required")


def test_zip_leaves_out_what_operating_systems_add() -> None:
    junk = ("__MACOSX/cat/._a.jpg", "cat/.DS_Store", ".git/x", "cat/Thumbs.db", "dog/desktop.ini")
    data = make_zip([(name, b"junk") for name in junk] + [("cat/a.jpg", IMAGE)])
    assert told(read(data)) == [(0, IMAGE, "cat", "cat/a.jpg")]


def test_zip_paths_only_name() -> None:
    names = ["../../etc/passwd", "/root/cat/a", "C:\\pets\\dog\\b", "./bird/../c"]
    batch = read(make_zip([(name, b"x") for name in names]))
    assert [(item.label, item.id) for item in batch.inputs] == [
        ("etc", "etc/passwd"),
        ("cat", "root/cat/a"),
        ("dog", "C:/pets/dog/b"),
        ("bird", "bird/c"),
    ]


def test_zip_of_a_mac_has_utf8_names_without_the_flag() -> None:
    data = bytearray(make_zip({"K\u00e4se/a.jpg": b"x"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(signature) + offset
        data[at : at + 2] = (int.from_bytes(data[at : at + 2], "little") & ~0x800).to_bytes(2, "little")
    assert read(bytes(data)).inputs[0].label == "Käse"


def test_index_counts_every_item_of_the_request_in_order() -> None:
    archive = make_zip([("cat/a", b"1"), ("cat/b", b""), ("dog/c", b"3")])
    batch = read(
        form(part("x", b"0"), part("zip", archive, "z.zip"), part("y", b"", ""), part("y", b"5")), FORM
    )
    assert [(item.index, item.data) for item in batch.inputs] == [(0, b"0"), (1, b"1"), (3, b"3"), (5, b"5")]
    assert faults(batch) == [(2, 422, "empty_input"), (4, 422, "empty_input")]
    assert batch.total == 6
    assert (batch.rejected[0].label, batch.rejected[0].id) == ("cat", "cat/b")


def test_json_unlabelled_lists_strings_and_objects() -> None:
    document = {"inputs": [PLAIN, {"input": PLAIN, "id": "é/1"}, "?"], "model": "x", "top_k": 3}
    batch = read_json(document, labelled=False)
    assert told(batch) == [(0, IMAGE, None, None), (1, IMAGE, None, "é/1")]
    assert faults(batch) == [(2, 422, "invalid_input")]
    assert batch.options == {"model": "x", "top_k": 3}


def test_json_options_are_kept_and_cannot_be_changed() -> None:
    batch = read_json({"examples": [], "method": {"a": [1]}})
    assert (batch.total, batch.options) == (0, {"method": {"a": [1]}})
    with pytest.raises(TypeError):
        batch.options["x"] = 1  # type: ignore[index]


def test_json_suffix_type_is_json() -> None:
    assert read(b'{"input": "AAAA"}', "application/vnd.x+json; charset=utf-8", labelled=False).total == 1


def test_json_example_without_label_takes_that_of_the_query() -> None:
    batch = read_json({"examples": [{"input": "AAAA"}, {"input": "AAAA", "label": "dog"}]}, label="cat")
    assert [item.label for item in batch.inputs] == ["cat", "dog"]


def test_json_example_may_have_several_labels() -> None:
    examples = [
        {"input": "AAAA", "labels": ["cat", "Ka\u0308se", "cat"], "id": "a"},
        {"input": "AAAA", "labels": ["__none__"]},
    ]
    batch = read_json({"examples": examples}, label="dog")
    assert [(item.labels, item.id) for item in batch.inputs] == [
        (("cat", "K\u00e4se"), "a"),
        (("__none__",), None),
    ]
    assert [item.label for item in batch.inputs] == [None, "__none__"]


@pytest.mark.parametrize("body", [b"--a-boundary--\r\n", b"--a-boundary--"])
def test_form_without_parts_is_an_empty_batch(body: bytes) -> None:
    assert read(body, FORM).total == 0


def test_json_without_inputs_is_an_empty_batch() -> None:
    assert read(b"{}", JSON).total == 0
    assert read(b'{"input": []}', JSON, labelled=False).total == 0


def test_empty_raw_body_is_one_empty_input() -> None:
    batch = read(b"", label="cat")
    assert (faults(batch), batch.total) == ([(0, 422, "empty_input")], 1)


def test_large_documents_and_forms_take_the_threaded_way_to_the_same_bytes() -> None:
    big = bytes(60_000)
    text = base64.b64encode(big).decode()
    batch = read_json({"input": [text] * 8}, labelled=False)
    assert [item.data for item in batch.inputs] == [big] * 8
    fields = read(form(*[part("cat", text.encode(), None)] * 8), FORM)
    assert [item.data for item in fields.inputs] == [big] * 8


@pytest.mark.parametrize("shift", range(4))
def test_long_percent_encoding_is_decoded_as_one(shift: int) -> None:
    data = b"x" * shift + b"\xff\x00%" * 20_000
    uri = "data:," + "x" * shift + "%ff%00%25" * 20_000
    assert read_json({"input": uri}, labelled=False).inputs[0].data == data
