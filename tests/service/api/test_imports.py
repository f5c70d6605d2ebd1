"""Head files from elsewhere: what is taken, what a head without examples does, what is refused."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.config import Settings
from tests.service.api.conftest import Teach, check, photographs
from training.heads import FitOptions, Head, fit_head, load_head, save_head

Change = Callable[[Head], Head]


def predict(client: TestClient, name: str, **query: int) -> list[dict]:
    response = client.post(f"/v1/heads/{name}/predict", files=photographs(50, 56), params=query)
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def post(client: TestClient, name: str, data: bytes, **query: object):  # type: ignore[no-untyped-def]
    return client.post(f"/v1/heads/{name}/versions", content=data, params=query)


@pytest.fixture
def head_file(client: TestClient, teach: Teach) -> bytes:
    teach("shades")
    return client.get("/v1/heads/shades/export").content


def test_an_exported_head_predicts_the_same_bits_where_it_is_imported(
    client: TestClient, head_file: bytes
) -> None:
    response = post(client, "copy", head_file)
    assert response.status_code == 201, response.text
    found = response.json()
    assert (found["head"], found["version"], found["published"], found["imported"]) == ("copy", 1, True, True)
    assert (found["classes"], found["examples"], found["parent_version"]) == (["dark", "light"], 12, None)
    assert predict(client, "copy") == predict(client, "shades")
    again = client.get("/v1/heads/copy/export").content
    assert load_head(again).weights.tobytes() == load_head(head_file).weights.tobytes()
    report = client.get("/v1/heads/shades").json()["report"]
    assert found["report"] == report


def test_an_imported_version_follows_the_published_one(client: TestClient, head_file: bytes) -> None:
    trained = client.post("/v1/heads/shades/examples", files=photographs(10, 14)).json()
    assert trained["version"] == 2
    found = post(client, "shades", head_file, publish=False).json()
    assert (found["version"], found["published"], found["parent_version"]) == (3, False, 2)
    assert load_head(client.get("/v1/heads/shades/export?version=3").content).parent_version == 2
    assert client.get("/v1/heads/shades").json()["published_version"] == 2
    assert predict(client, "shades", version=3) == predict(client, "shades", version=1)
    published = post(client, "shades", head_file).json()
    assert (published["version"], published["published"]) == (4, True)
    described = client.get("/v1/heads/shades").json()
    assert (described["published_version"], described["up_to_date"]) == (4, False)
    listed = client.get("/v1/heads/shades/versions").json()["versions"]
    assert [row["imported"] for row in listed] == [True, True, False, False]
    assert client.post("/v1/heads/shades/versions/2/publish").json()["published_version"] == 2


def test_a_head_without_examples_answers_every_call(client: TestClient, head_file: bytes) -> None:
    post(client, "bare", head_file)
    described = client.get("/v1/heads/bare").json()
    assert (described["examples"], described["classes"], described["up_to_date"]) == (0, [], False)
    assert described["published_classes"] == ["dark", "light"]
    assert described["report"]["examples"] == 12
    assert "bare" in [row["head"] for row in client.get("/v1/heads").json()["heads"]]
    assert client.get("/v1/heads/bare/examples").json() == {"examples": [], "next": None}
    check(client.get(f"/v1/heads/bare/examples/{'0' * 32}"), 404, "example_not_found")
    error = check(client.post("/v1/heads/bare/train"), 422, "no_examples")
    assert "at least two classes" in error["message"]
    one_class = photographs(20, 22)[:2]
    check(client.post("/v1/heads/bare/examples", files=one_class), 422, "too_few_classes")
    assert client.get("/v1/heads/bare").json()["examples"] == 0
    evaluated = client.post("/v1/heads/bare/evaluate", files=photographs(30, 34)).json()
    assert evaluated["inputs"]["in_support_set"] == 0
    added = client.post("/v1/heads/bare/examples", files=photographs(20, 24)).json()
    assert (added["version"], added["examples"]["total"]) == (2, 8)
    assert client.get("/v1/heads/bare").json()["up_to_date"] is True
    assert client.delete("/v1/heads/bare").status_code == 204
    check(client.get("/v1/heads/bare"), 404, "head_not_found")


def fitted(like: Head, labels: list, **options: object) -> Head:
    embeddings = np.random.default_rng(0).normal(size=(len(labels), like.dim)).astype(np.float32)
    choice = FitOptions(**options)  # type: ignore[arg-type]
    return fit_head(embeddings, labels, extractor_digest=like.extractor_digest, options=choice)


def test_heads_of_every_kind_come_back_as_they_went(client: TestClient, head_file: bytes) -> None:
    like = load_head(head_file)
    kinds = {
        "negatives": fitted(like, [*"aabbcc", "__none__", "__none__"]),
        "one-each": fitted(like, ["a", "b", "c"]),
        "several": fitted(like, [["a"], ["b"], ["a", "b"], []] * 4, task="multi_label"),
        "many": fitted(like, [f"{k:04d}" for k in range(1000) for _ in range(2)]),
        "names": fitted(like, ["Größe", "Größe", "日本", "日本", "a b", "a b"]),
    }
    for name, head in kinds.items():
        assert post(client, name, save_head(head)).status_code == 201, name
        exported = client.get(f"/v1/heads/{name}/export").content
        assert exported == save_head(head), name
        questions = np.random.default_rng(1).normal(size=(9, like.dim)).astype(np.float32)
        expected, found = head.predict(questions), load_head(exported).predict(questions)
        assert found.probabilities.tobytes() == expected.probabilities.tobytes()
        assert found.typicality.tobytes() == expected.typicality.tobytes()
        predict(client, name)
        labelled = ["a", "b", "c"] if name in ("negatives", "several", "one-each") else head.classes
        asked = [(label, file) for label, (_, file) in zip(labelled[:2], photographs(60, 61), strict=False)]
        assert client.post(f"/v1/heads/{name}/evaluate", files=asked).status_code == 200, name


def test_files_of_another_extractor_are_a_conflict(client: TestClient, head_file: bytes) -> None:
    stranger = replace(load_head(head_file), extractor_digest="1" * 64)
    for name in ("shades", "new"):
        check(post(client, name, save_head(stranger)), 409, "extractor_mismatch")
    check(client.get("/v1/heads/new"), 404, "head_not_found")


def test_a_file_of_another_task_is_a_conflict(client: TestClient, head_file: bytes) -> None:
    several = fitted(load_head(head_file), [["a"], ["b"], ["a", "b"], []] * 4, task="multi_label")
    check(post(client, "shades", save_head(several)), 409, "task_mismatch")
    assert post(client, "several", save_head(several)).status_code == 201
    assert client.get("/v1/heads/several").json()["task"] == "multi_label"
    check(post(client, "several", head_file), 409, "task_mismatch")


def reported(**values: object) -> Change:
    return lambda head: replace(head, report=replace(head.report, **values))  # type: ignore[arg-type]


def with_array(name: str, value: float) -> Change:
    def change(head: Head) -> Head:
        array = np.full_like(getattr(head, name), value)
        return replace(head, **{name: array})  # type: ignore[arg-type]

    return change


def with_curve(**values: object) -> Change:
    return lambda head: replace(head, typicality=replace(head.typicality, **values))  # type: ignore[arg-type]


DEEP: object = []
for _ in range(400):
    DEEP = [DEEP]

HOSTILE: dict[str, Change] = {
    "digest": lambda head: replace(head, extractor_digest="\ud800" * 64),
    "no digest": lambda head: replace(head, extractor_digest=""),
    "library version": lambda head: replace(head, library_version="<script>"),
    "long library version": lambda head: replace(head, library_version="1" * 10_000),
    "accuracy": reported(accuracy="very good"),
    "accuracy above 1": reported(accuracy=7.0),
    "examples": reported(examples=2**70),
    "no count": reported(examples=-1),
    "warnings": reported(warnings=({"code": 1, "message": None},)),
    "text that no database holds": reported(warnings=({"code": "x", "message": "a\0b"},)),
    "surrogate": reported(warnings=({"code": "x", "message": "\udfff"},)),
    "deep": reported(forecast={"a": DEEP}),
    "large integer": reported(forecast={"a": 2**63}),
    "large number": reported(log_loss=1e300),
    "classes of the report": reported(per_class=()),
    "labels of the matrix": reported(confusion={"labels": [], "matrix": []}),
    "weights": with_array("weights", 3e38),
    "bias": with_array("bias", 1e300),
    "mean": lambda head: with_curve(mean=np.full_like(head.typicality.mean, 1e20))(head),
    "narrow range": with_curve(log_range=np.array([1.0, np.nextafter(1.0, 2)])),
    "wide range": with_curve(log_range=np.array([-1e300, 1e300])),
    "slope": lambda head: replace(
        head, calibration=replace(head.calibration, slope=head.calibration.slope * 1e300)
    ),
    "reserved label": lambda head: relabelled(head, "__none__"),
    "blank label": lambda head: relabelled(head, " "),
    "control character": lambda head: relabelled(head, "a\nb"),
    "long label": lambda head: relabelled(head, "a" * 300),
    "label in another form": lambda head: relabelled(head, "e\u0301"),
}


def relabelled(head: Head, label: str) -> Head:
    classes = tuple(sorted((label, "zebra")))
    rows = tuple({**row, "label": name} for row, name in zip(head.report.per_class, classes, strict=True))
    report = replace(head.report, per_class=rows, confusion={**head.report.confusion, "labels": [*classes]})
    return replace(head, classes=classes, report=report)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_head_file_is_refused(client: TestClient, head_file: bytes, kind: str) -> None:
    data = save_head(HOSTILE[kind](load_head(head_file)))
    response = post(client, "guarded", data)
    assert response.status_code == 422, response.text
    assert response.json()["error"]["code"] in ("invalid_head_file", "invalid_label", "label_too_long")
    check(client.get("/v1/heads/guarded"), 404, "head_not_found")


def garbage(head_file: bytes) -> Iterator[bytes]:
    yield b""
    yield b"\xff" * 8
    yield b"not a head"
    yield json.dumps({"classes": ["a", "b"]}).encode()
    yield head_file[: len(head_file) // 2]
    yield head_file[:-1]
    yield head_file + b"x"
    yield b"\x89PNG\r\n\x1a\n" + bytes(1000)
    yield (2**25).to_bytes(8, "little") + b"[" * 2**25
    yield (10_000).to_bytes(8, "little") + b"[" * 10_000


def test_what_is_no_head_file_is_refused(client: TestClient, head_file: bytes) -> None:
    for data in garbage(head_file):
        check(post(client, "guarded", data), 422, "invalid_head_file")
    check(client.get("/v1/heads/guarded"), 404, "head_not_found")


def test_a_header_of_tiny_parts_is_refused_before_it_is_parsed(client: TestClient) -> None:
    """15 MB of them took 400 MB and, with the interpreter locked, 2.5 s."""
    for parts in (b"[[]" + b",[]" * 600_000 + b"]", b"[{}" + b",{}" * 600_000 + b"]"):
        text = b'{"__metadata__":{"headstart":"{}"},"a":' + parts + b"}"
        response = post(client, "guarded", len(text).to_bytes(8, "little") + text)
        check(response, 422, "invalid_head_file")
        assert "at most 500000 lists" in response.json()["error"]["message"]


def test_the_size_and_the_parameters_are_checked(client: TestClient, head_file: bytes) -> None:
    check(post(client, "guarded", head_file, publish="perhaps"), 422, "invalid_parameter")
    check(post(client, "guarded", head_file, label="x"), 422, "invalid_parameter")
    check(post(client, "bad name!", head_file), 422, "invalid_parameter")
    headers = {"Content-Length": str(1 << 40)}
    check(client.post("/v1/heads/guarded/versions", content=b"", headers=headers), 413, "body_too_large")


PROPERTY = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@PROPERTY
@given(draw=st.data())
def test_no_damage_to_a_file_does_harm(client: TestClient, head_file: bytes, draw: st.DataObject) -> None:
    """Bytes are changed, cut out and put in, mostly in the header, where they mean something."""
    header = 8 + int.from_bytes(head_file[:8], "little")
    damaged = bytearray(head_file)
    for _ in range(draw.draw(st.integers(1, 4))):
        end = draw.draw(st.sampled_from([8, header, len(head_file)]))
        start = draw.draw(st.integers(0, min(end, len(damaged)) - 1))
        length = draw.draw(st.integers(0, 8))
        damaged[start : start + length] = draw.draw(st.binary(max_size=8))
    harmless(client, bytes(damaged))


def harmless(client: TestClient, data: bytes) -> None:
    """Whether the file is taken or refused, every call afterwards has an answer as documented."""
    response = post(client, "fuzzed", data)
    assert response.status_code in (201, 409, 422), response.text
    described = client.get("/v1/heads/fuzzed")
    assert described.status_code == (200 if response.status_code == 201 else 404)
    if response.status_code == 201:
        predictions = predict(client, "fuzzed")
        assert all(row["probability"] is not None and row["typicality"] is not None for row in predictions)
        assert client.get("/v1/heads/fuzzed/versions").status_code == 200
        assert client.get("/v1/heads/fuzzed/export?format=fused").status_code == 200
        assert client.delete("/v1/heads/fuzzed").status_code == 204


ANY_JSON = st.one_of(
    st.sampled_from([None, True, -1, 0, 1, 0.5, 1e308, 10**40, 2**63, "", "\0", "\ud800", "a" * 70_000]),
    st.sampled_from([[], {}, {"label": "dark"}, [[]], [{}], ["dark", "light"], DEEP, "INFINITY"]),
)


@PROPERTY
@given(draw=st.data())
def test_no_value_in_the_text_of_a_file_does_harm(
    client: TestClient, head_file: bytes, draw: st.DataObject
) -> None:
    """The JSON stays JSON; a value somewhere in it becomes another, or goes."""
    end = 8 + int.from_bytes(head_file[:8], "little")
    header = json.loads(head_file[8:end])
    document = json.loads(header["__metadata__"]["headstart"])
    place, key = document, draw.draw(st.sampled_from(sorted(document)))
    while isinstance(place[key], dict | list) and place[key] and draw.draw(st.booleans()):
        place = place[key]
        key = draw.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    if draw.draw(st.integers(0, 9)) == 0:
        del place[key]
    else:
        place[key] = draw.draw(ANY_JSON)
    # A number that is read as infinite, though it is written as JSON allows.
    header["__metadata__"]["headstart"] = json.dumps(document).replace('"INFINITY"', "1e999")
    text = json.dumps(header).encode()
    harmless(client, len(text).to_bytes(8, "little") + text + head_file[end:])


def test_imports_at_once_become_versions_of_one_head(client: TestClient, head_file: bytes) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(client, "raced", head_file), range(12)))
    versions = sorted(answer.json()["version"] for answer in answers if answer.status_code == 201)
    assert versions == list(range(1, len(versions) + 1))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert client.get("/v1/heads/raced").json()["last_version"] == len(versions)


def test_another_server_with_the_same_extractor_takes_the_file(
    client: TestClient, head_file: bytes, settings: Settings, tmp_path: Path
) -> None:
    from service.api import create_app
    from service.preparation import prepare

    elsewhere = replace(settings, home=tmp_path / "elsewhere")
    prepare(elsewhere)
    with TestClient(create_app(elsewhere)) as other:
        assert post(other, "shades", head_file).status_code == 201
        assert predict(other, "shades") == predict(client, "shades")
