"""Whatever bytes arrive: a batch or an ApiError, never another exception; and the batch adds up."""

import json
import zipfile

from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import ApiError
from service.ingest import Batch
from tests.service.ingest.asking import (
    BOUNDARY,
    FORM,
    JSON,
    check_batch,
    check_refusal,
    form,
    make_zip,
    part,
    read,
)

FUZZ = settings(max_examples=400, deadline=None, derandomize=True)

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=12,
)
INPUT_TEXT = st.text(max_size=20) | st.sampled_from(
    [
        "AAAA",
        "data:,x",
        "data:;base64,AA",
        "http://[::1",
        "https://a@b",
        "file:///etc/passwd",
        "%",
        "data:,%4",
    ]
)
EXAMPLE = st.fixed_dictionaries(
    {},
    optional={"input": INPUT_TEXT | VALUES, "label": st.text(max_size=5) | VALUES, "id": st.text() | VALUES},
)
DOCUMENTS = st.fixed_dictionaries(
    {}, optional={"examples": st.lists(EXAMPLE, max_size=4) | VALUES, "input": st.lists(INPUT_TEXT | EXAMPLE)}
)


def check(body: bytes, content_type: str | None, labelled: bool, chunk_bytes: int = 1 << 16) -> Batch | None:
    label = None if content_type == FORM or not labelled else "cat"
    try:
        batch = read(body, content_type, labelled=labelled, label=label, chunk_bytes=chunk_bytes)
    except ApiError as error:
        check_refusal(error)
        return None
    check_batch(batch, labelled=labelled)
    return batch


def mutate(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, removed, added in edits:
        at %= len(data) + 1
        data = data[:at] + added + data[at + removed :]
    return data


EDITS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 8), st.binary(max_size=4)), max_size=4)


@FUZZ
@given(st.binary(max_size=200), st.sampled_from([None, JSON, FORM, "image/png"]), st.booleans())
def test_any_bytes(body: bytes, content_type: str | None, labelled: bool) -> None:
    check(body, content_type, labelled)


@FUZZ
@given(DOCUMENTS | VALUES, st.booleans(), EDITS)
def test_json(document: object, labelled: bool, edits: list[tuple[int, int, bytes]]) -> None:
    body = json.dumps(document).encode()
    check(body, JSON, labelled)
    check(mutate(body, edits), JSON, labelled)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"\r\n'), max_size=12)
PARTS = st.lists(
    st.builds(
        part,
        NAMES,
        st.binary(max_size=60),
        st.none() | NAMES,
        st.sampled_from([b"", b"Content-Type: a/b\r\n"]),
    ),
    max_size=5,
)


@FUZZ
@given(PARTS, st.booleans(), EDITS, st.integers(1, 80))
def test_multipart(parts: list[bytes], labelled: bool, edits: list[tuple[int, int, bytes]], cut: int) -> None:
    check(form(*parts), FORM, labelled, cut)
    check(mutate(form(*parts), edits), FORM, labelled, cut)


@FUZZ
@given(st.lists(st.binary(min_size=1, max_size=80), max_size=5), st.integers(1, 90))
def test_a_well_formed_form_gives_its_bytes_however_it_is_cut(contents: list[bytes], cut: int) -> None:
    safe = [data.replace(BOUNDARY.encode(), b"").removeprefix(b"PK") or b"x" for data in contents]
    batch = check(form(*[part("cat", data) for data in safe]), FORM, True, cut)
    assert batch is not None
    assert [item.data for item in batch.inputs] == safe


FILES = st.lists(st.tuples(NAMES.filter(bool), st.binary(max_size=60)), max_size=5, unique_by=lambda f: f[0])


@FUZZ
@given(FILES, st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]), st.booleans(), EDITS)
def test_zip(
    files: list[tuple[str, bytes]], method: int, labelled: bool, edits: list[tuple[int, int, bytes]]
) -> None:
    data = make_zip([(f"cat/{name}", content) for name, content in files], method)
    check(data, None, labelled)
    check(mutate(data, edits), None, labelled)
    check(form(part("cat", mutate(data, edits))), FORM, labelled)
