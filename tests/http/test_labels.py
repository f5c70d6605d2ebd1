"""Several labels of one photograph, negatives and whole classes, through the real service."""

import base64
import io
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from benchmarks.main_job import multipart
from benchmarks.server import Server

Photos = dict[str, list[Path]]


@pytest.fixture
def tags(photos: Photos) -> list[tuple[str, Path]]:
    """Photographs of cats and dogs; every second one is also `indoor`."""
    pairs = [(label, path) for label, paths in photos.items() for path in paths[:6]]
    return [*pairs, *(("indoor", path) for _, path in pairs[::2])]


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def zipped(tags: list[tuple[str, Path]]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as bundle:
        for label, path in tags:
            bundle.write(path, f"{label}/{path.name}")
    return packed.getvalue()


def as_json(tags: list[tuple[str, Path]]) -> dict:
    labels: dict[Path, list[str]] = {}
    for label, path in tags:
        labels.setdefault(path, []).append(label)
    examples = [{"input": encoded(path), "labels": own, "id": path.name} for path, own in labels.items()]
    return {"task": "multi_label", "examples": examples}


def refused(answer: httpx.Response, status: int, code: str) -> dict:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    return error


def test_three_forms_make_the_same_multi_label_head(
    client: httpx.Client, tags: list[tuple[str, Path]], photos: Photos
) -> None:
    asked = multipart([("x", photos["cat"][50]), ("x", photos["dog"][50])])
    found = []
    for name, body in (
        ("tags-form", {"files": multipart(tags), "params": {"task": "multi_label"}}),
        ("tags-zip", {"content": zipped(tags), "params": {"task": "multi_label"}}),
        ("tags-json", {"json": as_json(tags)}),
    ):
        taught = client.put(f"/v1/heads/{name}", **body).json()
        assert (taught["task"], taught["classes"]) == ("multi_label", ["cat", "dog", "indoor"])
        assert (taught["examples"]["total"], taught["examples"]["added"]) == (18, 18)
        described = client.get(f"/v1/heads/{name}").json()
        assert (described["task"], described["examples"], described["negatives"]) == ("multi_label", 18, 0)
        assert described["classes"] == [{"label": label, "examples": 6} for label in ("cat", "dog", "indoor")]
        found.append(client.post(f"/v1/heads/{name}/predict", files=asked).json()["predictions"])
    assert found[0] == found[1] == found[2]
    for item in found[0]:
        likely = [row["label"] for row in item["probabilities"] if row["probability"] >= 0.5]
        assert item["labels"] == likely


def test_a_label_is_added_relabelled_and_removed_by_itself(
    client: httpx.Client, tags: list[tuple[str, Path]]
) -> None:
    client.put("/v1/heads/marked", json=as_json(tags)).raise_for_status()
    photo = tags[0][1]
    again = client.post("/v1/heads/marked/examples", files=multipart([("cat", photo), ("indoor", photo)]))
    assert (again.status_code, again.json()["examples"]["duplicates"]) == (200, 2)
    more = client.post("/v1/heads/marked/examples", files=multipart([("cat", photo), ("striped", photo)]))
    assert (more.status_code, more.json()["examples"]["added"]) == (201, 1)
    (example,) = more.json()["examples"]["ids"]
    path = f"/v1/heads/marked/examples/{example}"
    error = refused(client.patch(path, json={"label": "cat"}), 409, "label_conflict")
    assert error["existing"]["label"] == "cat"
    refused(client.patch(path, json={"label": "__none__"}), 409, "label_conflict")
    assert client.patch(path, json={"label": "spotted"}).json()["classes"] == [
        "cat", "dog", "indoor", "spotted"
    ]  # fmt: skip
    assert client.delete(path).json()["examples"]["total"] == 18
    assert client.post("/v1/heads/marked/train").json()["examples"]["cached"] == 18


def test_labels_that_do_not_go_together_change_nothing(
    client: httpx.Client, tags: list[tuple[str, Path]], teach: Callable[..., dict], photos: Photos
) -> None:
    teach("one-label")
    client.put("/v1/heads/many-labels", json=as_json(tags)).raise_for_status()
    names = ("one-label", "many-labels")
    before = [client.get(f"/v1/heads/{name}").json() for name in names]
    photo = encoded(photos["cat"][80])

    def post(name: str, *examples: dict) -> httpx.Response:
        return client.post(f"/v1/heads/{name}/examples", json={"examples": examples})

    several = {"input": photo, "labels": ["cat", "indoor"]}
    error = refused(post("one-label", several), 422, "too_many_labels")
    assert error["param"] == "inputs[0].labels"
    assert client.get("/v1/heads/never-there").status_code == 404
    refused(client.put("/v1/heads/never-there", json={"examples": [several]}), 422, "too_many_labels")
    refused(post("many-labels", {"input": photo, "labels": ["cat", "__none__"]}), 409, "label_conflict")
    refused(
        post("many-labels", {"input": photo, "label": "cat"}, {"input": photo, "label": "__none__"}),
        409,
        "label_conflict",
    )
    refused(post("many-labels", {"input": encoded(tags[0][1]), "label": "__none__"}), 409, "label_conflict")
    refused(post("many-labels", {"input": photo, "labels": []}), 422, "label_required")
    for labels in ("cat", {"cat": True}, None, 3, ["cat", 3], [["cat"]], [None]):
        refused(post("many-labels", {"input": photo, "labels": labels}), 422, "invalid_parameter")
    refused(post("many-labels", {"input": photo, "labels": ["cat", "__x"]}), 422, "invalid_label")
    refused(post("many-labels", {"input": photo, "labels": ["a"], "label": "a"}), 422, "invalid_parameter")
    many = [str(number) for number in range(10_001)]
    refused(post("many-labels", {"input": photo, "labels": many}), 413, "too_many_inputs")
    refused(
        client.put("/v1/heads/many-labels?task=no_label", json={"examples": []}), 422, "invalid_parameter"
    )
    assert [client.get(f"/v1/heads/{name}").json() for name in names] == before


def test_negatives_are_examples_and_no_class(
    client: httpx.Client, teach: Callable[..., dict], photos: Photos
) -> None:
    teach("with-none")
    none = multipart([("__none__", path) for path in photos["cat"][100:104]])
    taught = client.post("/v1/heads/with-none/examples", files=none).json()
    assert (taught["classes"], taught["examples"]["total"]) == (["cat", "dog"], 14)
    described = client.get("/v1/heads/with-none").json()
    assert [row["label"] for row in described["classes"]] == ["cat", "dog"]
    assert (described["negatives"], described["examples"]) == (4, 14)
    listed = client.get("/v1/heads/with-none/examples", params={"label": "__none__"}).json()["examples"]
    assert {row["label"] for row in listed} == {"__none__"}
    asked = client.post("/v1/heads/with-none/predict", files=multipart([("x", photos["dog"][50])])).json()
    (item,) = asked["predictions"]
    assert 0 <= item["none_probability"] <= 1
    assert [row["label"] for row in item["probabilities"]] == ["dog", "cat"]
    only_none = client.put("/v1/heads/never-there", files=none)
    assert (only_none.status_code, client.get("/v1/heads/never-there").status_code) == (422, 404)


def test_whole_classes_are_renamed_merged_and_removed(
    client: httpx.Client, teach: Callable[..., dict], photos: Photos
) -> None:
    teach("classes")
    path = "/v1/heads/classes/examples"
    birds = [("bird", photo) for photo in photos["cat"][100:103]]
    client.post(path, files=multipart(birds)).raise_for_status()
    renamed = client.patch(path, params={"label": "bird"}, json={"label": "eagle"}).json()
    assert (renamed["version"], renamed["classes"]) == (3, ["cat", "dog", "eagle"])
    refused(client.patch(path, params={"label": "bird"}, json={"label": "x"}), 404, "label_not_found")
    refused(client.delete(path, params={"label": "bird"}), 404, "label_not_found")
    removed = client.delete(path, params={"label": "eagle"}).json()
    assert (removed["version"], removed["classes"], removed["examples"]["total"]) == (4, ["cat", "dog"], 10)

    before = client.get("/v1/heads/classes").json()
    refused(client.delete(path, params={"label": "dog"}), 422, "too_few_classes")
    merging = {"params": {"label": "dog"}, "json": {"label": "cat"}}
    refused(client.patch(path, **merging), 422, "too_few_classes")
    refused(client.delete(path), 422, "invalid_parameter")
    refused(client.delete(path, params={"label": "__x"}), 422, "invalid_label")
    for body in ({}, {"label": ""}, {"label": 3}, {"label": "x", "more": 1}):
        answer = client.patch(path, params={"label": "dog"}, json=body)
        refused(answer, 422, "invalid_parameter")
    refused(client.patch(path, params={"label": "dog"}, json={"label": "__x"}), 422, "invalid_label")
    refused(client.delete("/v1/heads/nobody/examples", params={"label": "x"}), 404, "head_not_found")
    assert client.get("/v1/heads/classes").json() == before
    untrained = client.delete(path, params={"label": "dog", "train": False}).json()
    assert (untrained["version"], untrained["classes"]) == (None, ["cat"])


def test_labels_from_many_clients_at_once(
    server: Server, client: httpx.Client, tags: list[tuple[str, Path]], photos: Photos
) -> None:
    """Each adds a label of its own to one photograph, and all add the same one."""
    client.put("/v1/heads/crowd", json=as_json(tags)).raise_for_status()
    photo = photos["dog"][90]

    def add(number: int) -> int:
        files = multipart([(f"tag-{number}", photo), ("dog", photo)])
        with server.client() as client:
            while True:
                answer = client.post("/v1/heads/crowd/examples", files=files, params={"train": False})
                if answer.status_code != 409:
                    return int(answer.json()["examples"]["added"])

    with ThreadPoolExecutor(6) as pool:
        added = list(pool.map(add, range(6)))
    assert sorted(added) == [1] * 5 + [2]
    described = client.get("/v1/heads/crowd").json()
    assert described["examples"] == 18 + 7
