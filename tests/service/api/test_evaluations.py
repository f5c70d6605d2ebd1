"""Labelled inputs against a head: what is counted, what is warned about, what is refused."""

import base64

import pytest
from fastapi.testclient import TestClient

from tests.service.api.conftest import Teach, check, photographs
from tests.service.images import png

EVALUATE = "/v1/heads/shades/evaluate"


def test_figures_are_those_of_the_predictions(client: TestClient, teach: Teach) -> None:
    teach("shades")
    asked = photographs(50, 60)
    found = client.post(EVALUATE, files=asked).json()
    predictions = client.post("/v1/heads/shades/predict", files=asked).json()["predictions"]
    right = sum(p["label"] == label for p, (label, _) in zip(predictions, asked, strict=True))
    assert found["accuracy"] == right / 20
    assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]
    assert found["unknown_rate"] == sum(p["unknown"] for p in predictions) / 20
    assert [row["support"] for row in found["per_class"]] == [10, 10]
    assert sum(map(sum, found["confusion"]["matrix"])) == 20
    assert found["inputs"] | {"embedded": 0, "cached": 0} == {
        "total": 20,
        "evaluated": 20,
        "negatives": 0,
        "duplicates": 0,
        "in_support_set": 0,
        "embedded": 0,
        "cached": 0,
        "rejected": [],
    }
    assert (found["version"], found["warnings"], found["negatives_rejected"]) == (1, [], None)


def test_nothing_is_learned_from_the_inputs(client: TestClient, teach: Teach) -> None:
    teach("shades")
    before = client.get("/v1/heads/shades").json()
    client.post(EVALUATE, files=photographs(50, 60))
    assert client.get("/v1/heads/shades").json() == before
    again = client.post(EVALUATE, files=photographs(50, 60)).json()["inputs"]
    assert (again["embedded"], again["cached"]) == (0, 20)


def test_inputs_of_the_support_set_are_warned_about_and_repeated_ones_count_once(
    client: TestClient, teach: Teach
) -> None:
    teach("shades")
    asked = [*photographs(0, 3), *photographs(50, 52), *photographs(50, 51)]
    found = client.post(EVALUATE, files=asked).json()
    inputs = found["inputs"]
    assert (inputs["in_support_set"], inputs["duplicates"], inputs["evaluated"]) == (6, 2, 10)
    assert [warning["code"] for warning in found["warnings"]] == ["in_support_set"]
    dark = client.post(EVALUATE, files=photographs(50, 52)[:2]).json()
    assert [warning["code"] for warning in dark["warnings"]] == ["class_not_evaluated"]
    assert dark["per_class"][1] == {
        "label": "light",
        "support": 0,
        "precision": dark["per_class"][1]["precision"],
        "recall": None,
        "f1": dark["per_class"][1]["f1"],
    }


def test_every_form_of_input_is_taken(client: TestClient, teach: Teach) -> None:
    teach("shades")
    data = png(12_345)
    examples = [{"input": base64.b64encode(data).decode(), "label": "dark", "id": "a"}]
    answers = [
        client.post(EVALUATE, files=[("dark", ("a.png", data))]),
        client.post(EVALUATE, content=data, params={"label": "dark"}),
        client.post(EVALUATE, json={"examples": examples, "threshold": 0.05, "version": 1}),
    ]
    figures = [{**answer.json(), "timings_ms": 0, "inputs": 0} for answer in answers]
    assert figures[0] == figures[1] == figures[2]


def test_the_threshold_decides_what_is_unknown(client: TestClient, teach: Teach) -> None:
    teach("shades")
    rates = [
        client.post(EVALUATE, files=photographs(50, 60), params={"threshold": threshold}).json()
        for threshold in (0, 1)
    ]
    assert [rate["unknown_rate"] for rate in rates] == [0, 1]
    assert [rate["threshold"] for rate in rates] == [0, 1]


def test_labels_that_the_head_does_not_know(client: TestClient, teach: Teach) -> None:
    teach("shades")
    asked = [*photographs(50, 52), ("grey", ("grey.png", png(999)))]
    error = check(client.post(EVALUATE, files=asked), 422, "unknown_class")
    assert [(item["index"], item["label"], item["code"]) for item in error["items"]] == [
        (4, "grey", "unknown_class")
    ]
    found = client.post(EVALUATE, files=asked, params={"on_error": "skip"}).json()
    assert (found["inputs"]["total"], found["inputs"]["evaluated"]) == (5, 4)
    assert [item["label"] for item in found["inputs"]["rejected"]] == ["grey"]
    check(client.post(EVALUATE, files=asked[4:], params={"on_error": "skip"}), 422, "unknown_class")


def test_negatives_count_apart(client: TestClient, teach: Teach) -> None:
    teach("shades")
    asked = [*photographs(50, 52), ("__none__", ("a.png", png(7, side=60)))]
    found = client.post(EVALUATE, files=asked, params={"threshold": 1}).json()
    assert (found["inputs"]["evaluated"], found["inputs"]["negatives"]) == (4, 1)
    assert found["negatives_rejected"] == 1
    assert sum(map(sum, found["confusion"]["matrix"])) == 4


def test_an_input_of_a_multi_label_head_has_all_its_labels(client: TestClient) -> None:
    learned = [*photographs(0, 6), *(("even", file) for _, file in photographs(0, 6)[::2])]
    put = client.put("/v1/heads/shades", files=learned, params={"task": "multi_label"})
    assert put.status_code == 201, put.text
    fresh = photographs(50, 54)
    asked = [*fresh, ("even", fresh[0][1]), ("__none__", ("n.png", png(7, side=60)))]
    found = client.post(EVALUATE, files=asked).json()
    assert (found["inputs"]["evaluated"], found["inputs"]["negatives"]) == (8, 1)
    assert [(row["label"], row["support"]) for row in found["per_class"]] == [
        ("dark", 4),
        ("even", 1),
        ("light", 4),
    ]
    assert all(sum(row) == 9 for row in found["confusion"]["matrix"])
    both = [*fresh, ("__none__", fresh[0][1])]
    check(client.post(EVALUATE, files=both), 409, "label_conflict")


def test_labels_that_do_not_go_together(client: TestClient, teach: Teach) -> None:
    teach("shades")
    ((_, file), *_) = photographs(50, 51)
    check(client.post(EVALUATE, files=[("dark", file), ("light", file)]), 409, "label_conflict")
    encoded = base64.b64encode(file[1]).decode()
    examples = [{"input": encoded, "labels": ["dark", "light"]}]
    check(client.post(EVALUATE, json={"examples": examples}), 422, "too_many_labels")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"version": 9}, 404, "version_not_found"),
        ({"version": 0}, 422, "invalid_parameter"),
        ({"threshold": 2}, 422, "invalid_parameter"),
        ({"threshold": "nan"}, 422, "invalid_parameter"),
        ({"on_error": "ignore"}, 422, "invalid_parameter"),
        ({"top_k": 1}, 422, "invalid_parameter"),
    ],
)
def test_bad_parameters(client: TestClient, teach: Teach, query: dict, status: int, code: str) -> None:
    teach("shades")
    check(client.post(EVALUATE, files=photographs(50, 51), params=query), status, code)


def test_bad_bodies(client: TestClient, teach: Teach) -> None:
    check(client.post(EVALUATE, files=photographs(50, 51)), 404, "head_not_found")
    teach("shades")
    bad = [("dark", ("bad.png", b"no picture"))]
    check(client.post(EVALUATE, content=b""), 422, "label_required")
    check(client.post(EVALUATE, content=b"", params={"label": "dark"}), 422, "empty_input")
    check(client.post(EVALUATE, json={"examples": []}), 422, "no_inputs")
    check(client.post(EVALUATE, json={"examples": [{"input": "x"}]}), 422, "label_required")
    check(client.post(EVALUATE, files=[*photographs(50, 51), *bad]), 415, "not_an_image")
    check(client.post(EVALUATE, files=bad, params={"on_error": "skip"}), 415, "not_an_image")
    found = client.post(EVALUATE, files=[*photographs(50, 51), *bad], params={"on_error": "skip"}).json()
    assert (found["inputs"]["evaluated"], len(found["inputs"]["rejected"])) == (2, 1)
