"""Labels and ids: what is kept, what is refused, and where the error points."""

from collections.abc import Callable

import pytest

from service.errors import ApiError
from service.ingest import Batch, validate_id, validate_label
from tests.service.ingest.asking import FORM, faults, form, make_zip, part, read, read_json


@pytest.mark.parametrize(
    "label", ["cat", " cat ", "Käse", "猫", "👩‍🔬", "a" * 256, "_x", "C:/?*%22", "__none__"]
)
def test_a_label_is_verbatim(label: str) -> None:
    assert validate_label(label) == label


def test_a_label_is_in_normal_form_c() -> None:
    assert validate_label("Ka\u0308se") == "K\u00e4se"
    assert validate_label("\u03b1\u0313\u0300\u0345" * 256) == "\u1f82" * 256


@pytest.mark.parametrize(
    "label",
    ["", " ", "\t", "a\nb", "a\x00", "\x7f", "a\u2028b", "\ud800", "__x", "__none__x", "__NONE__", "\u3000"],
)
def test_an_invalid_label_is_refused(label: str) -> None:
    with pytest.raises(ApiError) as caught:
        validate_label(label, "label")
    assert (caught.value.status, caught.value.code, caught.value.param) == (422, "invalid_label", "label")


@pytest.mark.parametrize("length", [257, 10_000, 10_000_000])
def test_a_long_label_is_refused_and_not_repeated(length: int) -> None:
    with pytest.raises(ApiError) as caught:
        validate_label("a" * length)
    assert (caught.value.status, caught.value.code) == (422, "label_too_long")
    assert len(caught.value.message) < 200


def test_a_label_that_grows_beyond_the_limit_by_normalising_is_too_long() -> None:
    with pytest.raises(ApiError, match="512"):
        validate_label("\u0958" * 256)


def test_every_form_refuses_a_long_label_and_says_where() -> None:
    long = "é" * 10_000
    cases: list[tuple[Callable[[], Batch], str]] = [
        (lambda: read(b"x", label=long), "label"),
        (lambda: read(form(part("cat", b"x"), part(long, b"x")), FORM), "inputs[1].label"),
        (lambda: read_json({"examples": [{"input": "AAAA", "label": long}]}), "examples[0].label"),
        (lambda: read(make_zip({f"{long}/a.jpg": b"x"})), "inputs[0].label"),
    ]
    for ask, param in cases:
        with pytest.raises(ApiError) as caught:
            ask()
        assert (caught.value.status, caught.value.code) == (422, "label_too_long")
        assert caught.value.param == param


def test_a_field_name_that_is_not_utf8_is_an_invalid_label() -> None:
    body = form(part("caf?", b"x")).replace(b"caf?", b"caf\xe9")
    with pytest.raises(ApiError) as caught:
        read(body, FORM)
    assert caught.value.code == "invalid_label"


def test_labels_are_not_looked_at_when_none_are_wanted() -> None:
    assert len(read(form(part("__x", b"x")), FORM, labelled=False).inputs) == 1


@pytest.mark.parametrize("id", ["", "a" * 513, "a\nb", "\udc80"])
def test_an_invalid_id_is_refused(id: str) -> None:
    with pytest.raises(ApiError) as caught:
        validate_id(id)
    assert (caught.value.status, caught.value.code) == (422, "invalid_id")


def test_an_id_is_verbatim_so_that_answers_can_be_matched() -> None:
    assert validate_id("Ka\u0308se " + "a" * 500) == "Ka\u0308se " + "a" * 500


def test_a_long_file_name_is_an_item_error_in_every_form() -> None:
    long = "a" * 513
    batches = [
        read(form(part("cat", b"x", long), part("cat", b"y")), FORM),
        read(make_zip([(f"cat/{long}", b"x"), ("cat/b", b"y")])),
        read_json(
            {"examples": [{"input": "eA==", "label": "cat", "id": long}, {"input": "eQ==", "label": "cat"}]}
        ),
    ]
    for batch in batches:
        assert faults(batch) == [(0, 422, "invalid_id")]
        assert [item.data for item in batch.inputs] == [b"y"]
        assert batch.rejected[0].id is None
