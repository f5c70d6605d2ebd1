"""`POST /v1/predict`: what many heads say at once is what each of them says alone."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.api import create_app
from service.config import Settings
from service.engine import Engine
from service.prediction.predictor import Predictor
from service.preparation import prepare
from tests.service.api.conftest import Teach, check, photographs
from tests.service.images import png

INPUT = png(77)
LINES = {"Accept": "application/x-ndjson"}


@pytest.fixture
def heads(client: TestClient, teach: Teach) -> list[str]:
    """Heads of every kind: two versions, negatives, several labels, unpublished."""
    teach("plain")
    teach("twice", 3, 8)
    teach("twice", 5, 12)
    negatives = [("__none__", (f"n{number}.png", png(256 * number + 120))) for number in range(4)]
    put = client.put("/v1/heads/negatives", files=[*photographs(0, 4), *negatives])
    assert put.status_code == 201, put.text
    both = [("any", part) for _, part in photographs(0, 5)]
    put = client.put("/v1/heads/labels?task=multi_label", files=[*photographs(0, 5), *both])
    assert put.status_code == 201, put.text
    return ["plain", "twice", "negatives", "labels"]


def alone(client: TestClient, head: str, data: bytes, **options: object) -> dict:
    answer = client.post(f"/v1/heads/{head}/predict", params=options, content=data).json()
    prediction = answer["predictions"][0]
    del prediction["id"], prediction["index"]
    return {"head": head, "version": answer["version"], **prediction}


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_k": 3, "threshold": 0.6}])
def test_each_head_answers_as_it_does_alone(client: TestClient, heads: list[str], options: dict) -> None:
    asked = [*heads[::-1], "plain"]
    answer = client.post("/v1/predict", params={"heads": asked, **options}, content=INPUT)
    assert answer.status_code == 200, answer.text
    (prediction,) = answer.json()["predictions"]
    assert [one["head"] for one in prediction["heads"]] == heads[::-1]
    for found in prediction["heads"]:
        expected = alone(client, found["head"], INPUT, **options)
        assert found.keys() == expected.keys()
        figures = ("probability", "typicality", "none_probability")
        for key in expected.keys() - {"probabilities", *figures}:
            assert found[key] == expected[key], key
        for key in expected.keys() & set(figures):
            assert found[key] == pytest.approx(expected[key], abs=1e-6), key
        ranked = [
            (item["label"], pytest.approx(item["probability"], abs=1e-6))
            for item in expected["probabilities"]
        ]
        assert [(item["label"], item["probability"]) for item in found["probabilities"]] == ranked


def test_heads_are_named_in_the_query_or_beside_the_inputs(client: TestClient, heads: list[str]) -> None:
    document = {"input": base64.b64encode(INPUT).decode(), "heads": "plain,t*"}
    answers = [
        client.post("/v1/predict", json=document),
        client.post("/v1/predict?heads=plain&heads=t*", content=INPUT),
        client.post("/v1/predict?heads=plain,t*", files={"image": INPUT}),
    ]
    for answer in answers:
        found = answer.json()["predictions"][0]["heads"]
        assert [(one["head"], one["version"]) for one in found] == [("plain", 1), ("twice", 2)]
    everything = client.post("/v1/predict?heads=*", content=INPUT).json()["predictions"][0]["heads"]
    assert [one["head"] for one in everything] == sorted(heads)


def test_what_others_publish_or_delete_shows_at_once(client: TestClient, heads: list[str]) -> None:
    def versions() -> dict[str, int]:
        found = client.post("/v1/predict?heads=*", content=INPUT).json()["predictions"][0]["heads"]
        return {one["head"]: one["version"] for one in found}

    before = versions()
    assert before["twice"] == 2
    client.post("/v1/heads/twice/versions/1/publish").raise_for_status()
    assert versions() == {**before, "twice": 1}
    client.delete("/v1/heads/plain").raise_for_status()
    assert "plain" not in versions()
    check(client.post("/v1/predict?heads=plain,twice", content=INPUT), 404, "head_not_found")


def test_heads_that_cannot_answer(client: TestClient, heads: list[str]) -> None:
    waiting = client.put("/v1/heads/waiting?train=false", files=photographs(0, 2))
    assert waiting.status_code == 201, waiting.text
    error = check(client.post("/v1/predict?heads=plain,nobody,waiting", content=INPUT), 404, "head_not_found")
    assert "'nobody'" in error["message"]
    assert (error["param"], error["heads"]) == ("heads", ["nobody", "waiting"])
    check(client.post("/v1/predict?heads=waiting", content=INPUT), 404, "version_not_found")
    check(client.post("/v1/predict?heads=x*", content=INPUT), 404, "head_not_found")
    url = "/v1/predict?on_error=skip&heads="
    answer = client.post(url + "plain,nobody,waiting,x*", content=INPUT).json()
    assert [one["head"] for one in answer["predictions"][0]["heads"]] == ["plain"]
    skipped = {one["head"]: one["code"] for one in answer["skipped"]}
    assert skipped == {"nobody": "head_not_found", "waiting": "version_not_found", "x*": "head_not_found"}
    check(client.post(url + "nobody", content=INPUT), 404, "head_not_found")


@pytest.mark.parametrize(
    ("heads", "status", "code"),
    [
        ("", 422, "no_heads"),
        (",", 422, "no_heads"),
        ("a b", 422, "invalid_parameter"),
        ("*a", 422, "invalid_parameter"),
        ("a" * 200, 422, "invalid_parameter"),
        ([1], 422, "invalid_parameter"),
        ({}, 422, "invalid_parameter"),
        (",".join(f"h{number}" for number in range(1001)), 413, "too_many_heads"),
        (",".join(f"h{number}" for number in range(10_000)), 413, "too_many_heads"),
    ],
)
def test_names_that_cannot_be_used(client: TestClient, heads: object, status: int, code: str) -> None:
    document = {"input": base64.b64encode(INPUT).decode(), "heads": heads}
    error = check(client.post("/v1/predict", json=document), status, code)
    assert error["param"].startswith("heads")


def test_more_heads_than_a_request_may_name(settings: Settings) -> None:
    settings = replace(settings, max_heads=2)
    prepare(settings)
    with TestClient(create_app(settings)) as client:
        for name in ("one", "two", "three"):
            assert client.put(f"/v1/heads/{name}", files=photographs(0, 3)).status_code == 201
        check(client.post("/v1/predict?heads=*", content=INPUT), 413, "too_many_heads")
        found = client.post("/v1/predict?heads=t*", content=INPUT).json()["predictions"][0]["heads"]
        assert [one["head"] for one in found] == ["three", "two"]


def test_heads_of_two_extractors(settings: Settings, tapped_folder: Path, tiny_folder: Path) -> None:
    both = replace(settings, extractors=(str(tapped_folder), str(tiny_folder)))
    prepare(both)
    with TestClient(create_app(both)) as client:
        for name in ("tiny", "tapped", "tiny2"):
            query = {"extractor": name.rstrip("2"), "layers": "auto" if name == "tapped" else "embedding"}
            put = client.put(f"/v1/heads/{name}", params=query, files=photographs(0, 6))
            assert put.status_code == 201, put.text
        files = [("a", ("a.png", png(3))), ("b", ("b.png", b"no image")), ("c", ("c.png", png(9)))]
        answer = client.post("/v1/predict?heads=tiny,tapped,tiny2&on_error=skip", files=files).json()
        assert [one["index"] for one in answer["rejected"]] == [1]
        for prediction, number in zip(answer["predictions"], (3, 9), strict=True):
            assert [one["head"] for one in prediction["heads"]] == ["tiny", "tapped", "tiny2"]
            for found in prediction["heads"]:
                expected = alone(client, found["head"], png(number), top_k=1)
                assert found["probability"] == pytest.approx(expected["probability"], abs=1e-6)
    alone_there = replace(settings, extractors=(str(tiny_folder),))
    with TestClient(create_app(alone_there)) as client:
        check(client.post("/v1/predict?heads=tiny,tapped", content=INPUT), 409, "extractor_mismatch")
        answer = client.post("/v1/predict?heads=*&on_error=skip", content=INPUT).json()
        assert [one["head"] for one in answer["predictions"][0]["heads"]] == ["tiny", "tiny2"]
        assert [(one["head"], one["code"]) for one in answer["skipped"]] == [("tapped", "extractor_mismatch")]


def test_one_pass_for_all_heads(client: TestClient, heads: list[str], app_engine: Engine) -> None:
    before = metric(client)
    answer = client.post("/v1/predict?heads=*", content=png(4242)).json()
    assert len(answer["predictions"][0]["heads"]) == 4
    assert metric(client) == before + 1


def test_a_head_that_moves_between_two_requests(
    settings: Settings, tapped_folder: Path, tiny_folder: Path
) -> None:
    """The second request expects the extractor of the first, and finds another."""
    both = replace(settings, extractors=(str(tiny_folder), str(tapped_folder)))
    prepare(both)
    with TestClient(create_app(both)) as client:
        for extractor in ("tiny", "tapped", "tiny"):
            put = client.put("/v1/heads/moving", params={"extractor": extractor}, files=photographs(0, 6))
            assert put.status_code == 201, put.text
            for number in (1, 2):
                (found,) = client.post("/v1/predict?heads=moving", content=png(number)).json()["predictions"]
                expected = alone(client, "moving", png(number), top_k=1)
                assert found["heads"][0]["version"] == expected["version"]
                assert found["heads"][0]["probability"] == pytest.approx(expected["probability"], abs=1e-6)
        check(client.post("/v1/predict?heads=moving", content=b"no image"), 415, "not_an_image")
        client.delete("/v1/heads/moving").raise_for_status()
        check(client.post("/v1/predict?heads=moving", content=b"no image"), 404, "head_not_found")


def metric(client: TestClient) -> float:
    line = 'headstart_embeddings_total{source="computed"} '
    (found,) = [text for text in client.get("/metrics").text.splitlines() if text.startswith(line)]
    return float(found.removeprefix(line))


def test_an_answer_that_would_be_too_large(
    client: TestClient, heads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.routes.panels.MOST_VALUES", 8)
    files = [("a", (f"{number}.png", png(number))) for number in range(3)]
    check(client.post("/v1/predict?heads=*", files=files), 413, "answer_too_large")
    assert len(lines(client, "/v1/predict?heads=*", files)) == 4
    check(client.post("/v1/predict?heads=*&top_k=9", files=files, headers=LINES), 413, "answer_too_large")


def lines(client: TestClient, url: str, files: list, accept: str = LINES["Accept"]) -> list[dict]:
    answer = client.post(url, files=files, headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.text.endswith("\n")
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("url", ["/v1/predict?heads=plain,twice", "/v1/heads/plain/predict"])
def test_a_line_for_each_input_and_a_summary(client: TestClient, heads: list[str], url: str) -> None:
    files = [("a", (f"{number}.png", png(number))) for number in range(40)]
    files[3:3] = [("a", ("bad.png", b"nothing")), ("a", ("", b"")), ("a", ("empty.png", b""))]
    *found, last = lines(client, url, files)
    whole = client.post(url + ("&" if "?" in url else "?") + "on_error=skip", files=files).json()
    answered = sorted((line for line in found if "error" not in line), key=lambda line: line["index"])
    assert answered == whole["predictions"]
    problems = {line["index"]: line["error"]["code"] for line in found if "error" in line}
    assert problems == {item["index"]: item["code"] for item in whole["rejected"]}
    summary = last["summary"]
    counts = {"inputs": len(files), "answered": 40, "rejected": len(files) - 40}
    assert counts.items() <= summary.items()


def test_lines_of_inputs_that_are_all_bad(client: TestClient, heads: list[str]) -> None:
    *found, last = lines(client, "/v1/heads/plain/predict", [("a", ("x.png", b"no"))] * 20)
    assert [line["error"]["code"] for line in found] == ["not_an_image"] * 20
    assert last["summary"]["answered"] == 0


def test_errors_of_a_request_come_before_any_line(client: TestClient, heads: list[str]) -> None:
    for url in ("/v1/predict?heads=nobody", "/v1/heads/nobody/predict"):
        check(client.post(url, content=INPUT, headers=LINES), 404, "head_not_found")
    for url in ("/v1/predict?heads=plain", "/v1/heads/plain/predict"):
        check(client.post(url, json={"input": []}, headers=LINES), 422, "no_inputs")
        check(client.post(url, json={"input": []}), 422, "no_inputs")


@pytest.mark.parametrize(
    ("accept", "by_lines"),
    [
        ("application/x-ndjson, application/json;q=0.5", True),
        ("Application/X-NDJSON;q=0.9, */*", True),
        ("application/json, application/x-ndjson;q=0.9", False),
        ("application/x-ndjson;q=0", False),
        ("application/x-ndjson;q=much", False),
        ("text/html", False),
        ("*/*", False),
        (";;,,q=", False),
    ],
)
def test_lines_only_for_those_who_ask(
    client: TestClient, heads: list[str], accept: str, by_lines: bool
) -> None:
    answer = client.post("/v1/heads/plain/predict", content=INPUT, headers={"Accept": accept})
    assert answer.headers["Content-Type"] == ("application/x-ndjson" if by_lines else "application/json")


def test_a_store_that_fails_in_the_middle_ends_the_lines_with_an_error(
    client: TestClient, heads: list[str], app_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [("a", (f"{number}.png", png(number))) for number in range(3)]
    find = Predictor.find

    def find_and_close(*arguments: object) -> object:
        found = find(*arguments)  # type: ignore[arg-type]
        app_engine.store.close()
        return found

    monkeypatch.setattr(Predictor, "find", find_and_close)
    (last,) = lines(client, "/v1/heads/plain/predict", files)
    assert last["error"]["code"] == "store_unavailable"
    assert last["error"]["request_id"]
