import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from tests.training.heads.clouds import clouds
from training.errors import ExtractorMismatchError, HeadFileError
from training.heads import TRANSFORMS, FitOptions, fit_head, load_head, save_head

HEAD = fit_head(*clouds(3, 6, dim=20), extractor_digest="digest", parent_version=2)
DATA = save_head(HEAD)


def _document(data=DATA):
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["headstart"])


def _rebuilt(arrays=None, **changes):
    document = {**_document(), **changes}
    return save({**load(DATA), **(arrays or {})}, {"headstart": json.dumps(document)})


@pytest.mark.parametrize("shots", [1, 2, 30])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_round_trip_keeps_every_bit(shots, transform):
    embeddings, labels = clouds(4, shots, spread=2.0)
    head = fit_head(embeddings, labels, extractor_digest="digest", options=FitOptions(transform=transform))
    data = save_head(head)
    again = load_head(data, extractor_digest="digest")
    inputs = np.random.default_rng(1).standard_normal((50, 48)).astype(np.float32)
    one, other = head.predict(inputs), again.predict(inputs)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.typicality, other.typicality)
    assert again.classes == head.classes
    assert again.report.as_dict() == head.report.as_dict()
    assert save_head(again) == data


def test_the_metadata_is_readable_json():
    document = _document()
    assert document["format_version"] == 2
    assert document["classes"] == list(HEAD.classes)
    assert document["parent_version"] == 2
    assert document["report"] == json.loads(json.dumps(HEAD.report.as_dict()))


def test_labels_of_any_script_survive():
    embeddings, _ = clouds(2, 3)
    labels = ["猫 \u0000\u2028\"'"] * 3 + ["chien 🐕"] * 3
    head = fit_head(embeddings, labels, extractor_digest="digest")
    assert load_head(save_head(head)).classes == head.classes


def test_another_extractor_is_refused():
    with pytest.raises(ExtractorMismatchError, match="digest"):
        load_head(DATA, extractor_digest="other")


def test_every_truncation_is_refused():
    for size in [*range(0, len(DATA), 37), len(DATA) - 1]:
        with pytest.raises(HeadFileError):
            load_head(DATA[:size])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_altered_bytes_load_as_a_working_head_or_are_refused(data):
    damaged = bytearray(DATA)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(DATA) - 1))] = data.draw(st.integers(0, 255))
    try:
        head = load_head(bytes(damaged))
    except HeadFileError:
        return
    prediction = head.predict(np.ones((1, head.dim), np.float32))
    assert prediction.probabilities.shape == (1, len(head.classes))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data):
    with pytest.raises(HeadFileError):
        load_head(data)


@pytest.mark.parametrize(
    "length", [2**63, 2**64 - 1, 10**9, len(DATA)], ids=["2**63", "2**64-1", "10**9", "whole"]
)
def test_a_huge_header_is_refused_before_it_is_read(length):
    with pytest.raises(HeadFileError, match="header"):
        load_head(length.to_bytes(8, "little") + DATA[8:])


def test_a_deeply_nested_header_is_refused():
    text = b'{"__metadata__":' + b"[" * 200_000
    with pytest.raises(HeadFileError):
        load_head(len(text).to_bytes(8, "little") + text)


@pytest.mark.parametrize("key", sorted(_document()))
def test_every_metadata_key_is_needed(key):
    document = _document()
    del document[key]
    with pytest.raises(HeadFileError):
        load_head(save(load(DATA), {"headstart": json.dumps(document)}))


@pytest.mark.parametrize("name", sorted(load(DATA)))
def test_every_array_is_needed_with_its_shape_type_and_finite_values(name):
    arrays, text = load(DATA), json.dumps(_document())
    wrong = {
        "missing": None,
        "shape": np.ascontiguousarray(arrays[name][..., :-1]),
        "rank": np.ascontiguousarray(arrays[name][..., None]),
        "type": arrays[name].astype(np.float16),
        "scalar": np.array(1.0),
        "NaN": np.full_like(arrays[name], np.nan),
        "infinite": np.full_like(arrays[name], np.inf),
    }
    if name == "values":
        del wrong["shape"]
    for array in wrong.values():
        others = {key: value for key, value in arrays.items() if key != name}
        data = save(others if array is None else {**others, name: array}, {"headstart": text})
        with pytest.raises(HeadFileError, match=r"head file"):
            load_head(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"format_version": 3},
        {"format_version": True},
        {"format_version": None},
        {"classes": ["a", "b"]},
        {"classes": ["b", "a", "c"]},
        {"classes": ["a", "a", "c"]},
        {"classes": ["", "b", "c"]},
        {"classes": "abc"},
        {"classes": [1, 2, 3]},
        {"width": 19},
        {"width": "20"},
        {"width": True},
        {"layers": []},
        {"layers": ["embedding"]},
        {"layers": [{"name": "embedding", "start": 0}]},
        {"layers": [{"name": "embedding", "start": 0, "stop": 21}]},
        {"layers": [{"name": "embedding", "start": 1, "stop": 21}]},
        {"layers": [{"name": "", "start": 0, "stop": 20}]},
        {"layers": [{"name": "embedding", "start": 0, "stop": True}]},
        {"layers": [{"name": "a", "start": 0, "stop": 10}, {"name": "a", "start": 10, "stop": 20}]},
        {"layers": [{"name": "a", "start": 10, "stop": 20}, {"name": "b", "start": 0, "stop": 10}]},
        {"layers": [{"name": "a", "start": 0, "stop": 0}, {"name": "b", "start": 0, "stop": 20}]},
        {"transform": "l3"},
        {"task": "ranking"},
        {"task": "multi_label"},
        {"negatives": True},
        {"negatives": 0},
        {"unknown_threshold": 1.5},
        {"parent_version": "1"},
        {"extractor_digest": 5},
        {"report": {}},
        {"report": []},
    ],
)
def test_wrong_metadata_is_refused(changes):
    with pytest.raises(HeadFileError):
        load_head(_rebuilt(**changes))


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "null", '{"format_version": 1}', '{"unknown_threshold": NaN}']
)
def test_metadata_that_is_not_a_document_is_refused(text):
    with pytest.raises(HeadFileError):
        load_head(save(load(DATA), {"headstart": text}))


def test_a_curve_that_is_not_one_is_refused():
    for name in ("log_range", "values"):
        with pytest.raises(HeadFileError, match=name):
            load_head(_rebuilt({name: np.ascontiguousarray(load(DATA)[name][::-1])}))


@pytest.mark.parametrize("slope", [0.0, -1.0])
def test_a_calibration_that_does_not_rise_is_refused(slope):
    with pytest.raises(HeadFileError, match="slope"):
        load_head(_rebuilt({"slope": np.full(3, slope)}))


@pytest.mark.parametrize("kind", ["negatives", "multi_label"])
def test_every_kind_of_head_survives(kind):
    embeddings, labels = clouds(4, 6, spread=2.0)
    if kind == "negatives":
        head = fit_head(embeddings, [*labels[:18], *["__none__"] * 6], extractor_digest="digest")
    else:
        sets = [{label, "all"} for label in labels[:18]] + [set()] * 6
        head = fit_head(embeddings, sets, extractor_digest="digest", options=FitOptions(task="multi_label"))
    again = load_head(save_head(head))
    one, other = head.predict(embeddings), again.predict(embeddings)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.typicality, other.typicality)
    np.testing.assert_array_equal(one.unknown, other.unknown)
    assert (again.task, again.negatives) == (head.task, head.negatives)


def test_a_file_without_metadata_is_refused():
    with pytest.raises(HeadFileError, match="metadata"):
        load_head(save(load(DATA)))
