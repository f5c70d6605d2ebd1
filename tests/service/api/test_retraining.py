"""What a request does not say of a fit is as it was: over REST, for every call that trains."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.engine import Engine
from service.learning.train_options import RETAINED, TrainOptions
from service.store import VersionRow
from tests.service.api.conftest import check, photographs
from tests.service.images import png
from training.heads import FitOptions

HEAD = "/v1/heads/shades"
SAID = "layers=embedding,stage3&threshold=0.3&unknown_rate=0.2&transform=l2&regularisation=2"
KEPT = {
    "layers": ["embedding", "stage3"],
    "threshold": 0.3,
    "unknown_rate": 0.2,
    "transform": "l2",
    "regularisation": 2.0,
    "seed": 0,
}
DEFAULTS = {
    "layers": ["embedding"],
    "threshold": None,
    "unknown_rate": 0.05,
    "transform": None,
    "regularisation": None,
    "seed": 0,
}


def put(client: TestClient, query: str = SAID) -> None:
    assert client.put(f"{HEAD}?{query}", files=photographs(0, 8)).status_code == 201


def options(client: TestClient, version: int | None = None) -> dict[str, Any]:
    """Those of the fit of a version; by default of the newest."""
    number = version or client.get(HEAD).json()["last_version"]
    found = client.get(f"{HEAD}/versions/{number}").json()["options"]
    return {name: found[name] for name in RETAINED}


def ids(client: TestClient) -> list[str]:
    return [row["id"] for row in client.get(f"{HEAD}/examples").json()["examples"]]


def test_every_change_of_the_examples_keeps_the_options(tapped: TestClient) -> None:
    put(tapped)
    assert options(tapped, 1) == KEPT
    one, other, *_ = ids(tapped)
    answers = [
        tapped.post(f"{HEAD}/examples", files=photographs(8, 9)),
        tapped.post(f"{HEAD}/examples", content=png(7), params={"label": "grey"}),
        tapped.patch(f"{HEAD}/examples/{one}", json={"label": "light"}),
        tapped.delete(f"{HEAD}/examples/{other}"),
        tapped.patch(f"{HEAD}/examples?label=grey", json={"label": "silver"}),
        tapped.delete(f"{HEAD}/examples?label=silver"),
        tapped.post(f"{HEAD}/train"),
        tapped.post(f"{HEAD}/train", json={"classes": ["dark", "light"]}),
        tapped.post(f"{HEAD}/train", json={"publish": False}),
    ]
    for version, answer in enumerate(answers, start=2):
        assert answer.is_success, answer.text
        body = answer.json()
        assert (body["version"], body["layers"]) == (version, KEPT["layers"])
        assert body["report"]["unknown_threshold"] == 0.3
        assert options(tapped, version) == KEPT
    assert tapped.get(f"{HEAD}/versions/10").json()["options"]["classes"] is None


def test_layers_are_kept_as_they_were_asked_for(tapped: TestClient) -> None:
    put(tapped, "layers=auto")
    added = tapped.post(f"{HEAD}/examples", files=photographs(8, 12)).json()
    assert options(tapped) == {**DEFAULTS, "layers": "auto"}
    assert added["report"]["layers_tried"]


@pytest.mark.parametrize(
    ("said", "changed"),
    [
        ({"layers": "embedding"}, {"layers": ["embedding"]}),
        ({"layers": "auto"}, {"layers": "auto"}),
        ({"transform": "auto"}, {"transform": None}),
        ({"transform": "signed_root_l2"}, {"transform": "signed_root_l2"}),
        ({"regularisation": "auto"}, {"regularisation": None}),
        ({"regularisation": 0.5}, {"regularisation": 0.5}),
        ({"threshold": "auto"}, {"threshold": None}),
        ({"threshold": 0.0}, {"threshold": 0.0}),
        # A threshold that was kept would decide in place of the rate that is asked for.
        ({"unknown_rate": 0.1}, {"unknown_rate": 0.1, "threshold": None}),
        ({"unknown_rate": 0.1, "threshold": 0.4}, {"unknown_rate": 0.1, "threshold": 0.4}),
    ],
)
def test_what_is_said_wins_and_so_does_a_default(
    tapped: TestClient, said: dict[str, Any], changed: dict[str, Any]
) -> None:
    put(tapped)
    assert tapped.post(f"{HEAD}/train", params=said).status_code == 201
    assert options(tapped) == {**KEPT, **changed}
    put(tapped)
    assert tapped.post(f"{HEAD}/train", json=said).status_code == 201
    assert options(tapped) == {**KEPT, **changed}
    put(tapped)
    assert tapped.post(f"{HEAD}/examples", files=photographs(8, 9), params=said).status_code == 201
    assert options(tapped) == {**KEPT, **changed}


def test_null_is_the_default(tapped: TestClient) -> None:
    put(tapped)
    example = {"input": base64.b64encode(png(7)).decode(), "label": "dark"}
    nothing = dict.fromkeys(("layers", "transform", "regularisation", "unknown_rate", "threshold"))
    assert tapped.post(f"{HEAD}/examples", json={"examples": [example], **nothing}).status_code == 201
    assert options(tapped) == DEFAULTS


def test_put_starts_from_the_defaults(tapped: TestClient) -> None:
    put(tapped)
    put(tapped, "transform=l2")
    assert options(tapped) == {**DEFAULTS, "transform": "l2"}


def test_a_move_keeps_what_the_other_extractor_has(tapped: TestClient) -> None:
    put(tapped)

    def move(extractor: str, switch: str, **said: object) -> None:
        body = {"extractor": extractor, "switch": switch, **said}
        assert tapped.post(f"{HEAD}/move", json=body).status_code == 201

    move("tiny", "never", regularisation=7)
    assert options(tapped) == {**KEPT, "layers": ["embedding"], "regularisation": 7}
    # That version is of an extractor that the head is not on.
    assert tapped.post(f"{HEAD}/train").status_code == 201
    assert options(tapped) == KEPT
    move("tiny", "always")
    assert options(tapped) == {**KEPT, "layers": ["embedding"]}
    assert tapped.post(f"{HEAD}/examples", files=photographs(8, 9)).status_code == 201
    assert options(tapped) == {**KEPT, "layers": ["embedding"]}
    put(tapped, "layers=auto&extractor=tapped")
    move("tiny", "always")
    assert options(tapped) == DEFAULTS


def test_an_imported_head_keeps_its_layers(tapped: TestClient) -> None:
    put(tapped)
    file = tapped.get(f"{HEAD}/export").content
    tapped.delete(HEAD)
    assert tapped.post(f"{HEAD}/versions", content=file).status_code == 201
    assert tapped.post(f"{HEAD}/examples", files=photographs(0, 4)).status_code == 201
    assert options(tapped) == {**DEFAULTS, "layers": ["embedding", "stage3"]}


@pytest.mark.parametrize(
    ("name", "value"),
    [("threshold", "2"), ("threshold", "none"), ("regularisation", "0"), ("transform", "automatic")],
)
def test_a_bad_value_is_named(tapped: TestClient, name: str, value: str) -> None:
    put(tapped)
    error = check(tapped.post(f"{HEAD}/train?{name}={value}"), 422, "invalid_parameter")
    assert error["param"] == name


def test_options_of_other_origins_are_read_as_far_as_they_can_be(
    tapped: TestClient,
) -> None:
    put(tapped)
    engine: Engine = tapped.app.state.engine  # type: ignore[attr-defined]
    row = engine.store.versions.get("shades", 1)
    odd = {
        "job": "0" * 32,
        "finetune": {"epochs": 3},
        "task": "multi_label",
        "threshold": "high",
        "transform": ["l2"],
        "regularisation": None,
        "unknown_rate": 0.1,
        "layers": {"embedding": 1280},
        "seed": True,
    }
    assert after(row, odd) == TrainOptions(FitOptions(unknown_rate=0.1, layers=("embedding", "stage3")))
    assert after(row, {}) == TrainOptions(FitOptions(layers=("embedding", "stage3")))
    assert after(row, {"layers": ["stage9"], "seed": 4}) == TrainOptions(FitOptions(seed=4))
    assert after(None, {}) == TrainOptions()


def after(row: VersionRow | None, told: dict[str, object]) -> TrainOptions:
    before = None if row is None else replace(row, options=told)
    return TrainOptions(said=frozenset()).after(before, ("embedding", "stage2", "stage3"))
