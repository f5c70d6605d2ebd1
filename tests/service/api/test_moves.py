"""`POST /v1/heads/{name}/move` over REST, while others predict and add."""

import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.embedding.registry import Registry
from service.engine import Engine
from tests.service.api.conftest import Teach, check, photographs
from tests.service.conftest import tiny_extractor
from tests.service.images import sided


@pytest.fixture
def moving(app_engine: Engine, second_folder: Path) -> Registry:
    registry = Registry.of(app_engine.settings, app_engine.store)
    registry.register(second_folder)
    return registry


def sides(start: int, stop: int) -> list[tuple[str, tuple[str, bytes]]]:
    return [
        (side, (f"{side}{number}.png", sided(10 * number + at, side)))
        for number in range(start, stop)
        for at, side in enumerate(("left", "right"))
    ]


def test_no_request_fails_while_a_head_moves(client: TestClient, moving: Registry, tmp_path: Path) -> None:
    moving.register(tiny_extractor(tmp_path / "blind", "blind", 2, mirrored=True))
    made = client.put("/v1/heads/sides?extractor=blind", files=sides(0, 20))
    assert made.status_code == 201, made.text
    statuses: list[tuple[int, int]] = []
    last: dict[int, int] = {}
    done = threading.Event()

    def predict(number: int) -> None:
        is_last = False
        while not is_last:
            is_last = done.is_set()
            found = client.post("/v1/heads/sides/predict", content=sided(number, "left"))
            statuses.append((found.status_code, found.json().get("version", 0)))
            last[number] = found.json()["version"] if is_last else 0

    threads = [threading.Thread(target=predict, args=(5000 + number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    added: list[int] = []
    adding = threading.Thread(
        target=lambda: added.append(client.post("/v1/heads/sides/examples", files=sides(20, 21)).status_code)
    )
    adding.start()
    moved = client.post("/v1/heads/sides/move", json={"extractor": "second"})
    adding.join()
    done.set()
    for thread in threads:
        thread.join()
    assert moved.status_code == 201, moved.text
    assert moved.json()["switched"] is True
    assert added == [201]
    assert {status for status, _ in statuses} == {200}
    assert {version for _, version in statuses} >= {1, 3}
    assert list(last.values()) == [3, 3, 3]
    head = client.get("/v1/heads/sides").json()
    assert (head["extractor"]["name"], head["published_version"], head["examples"]) == ("second", 3, 42)
    assert head["up_to_date"] is True


def test_the_answer_says_what_was_compared(client: TestClient, moving: Registry, teach: Teach) -> None:
    first = teach("shades")
    answered = client.post(
        "/v1/heads/shades/move", json={"extractor": "second", "switch": "never", "regularisation": 0.5}
    )
    assert answered.status_code == 201, answered.text
    body = answered.json()
    assert (body["version"], body["switched"], body["extractor"]["name"]) == (2, False, "second")
    assert body["previous"] == {"version": 1, "extractor": first["extractor"]}
    assert body["inputs"] == {"total": 12, "embedded": 12, "cached": 0}
    comparison = body["comparison"]
    assert comparison["before"]["accuracy"] == first["report"]["accuracy"]
    assert comparison["after"]["accuracy"] == body["report"]["accuracy"]
    assert comparison["paired"]["low"] <= comparison["paired"]["difference"] <= comparison["paired"]["high"]
    version = client.get("/v1/heads/shades/versions/2").json()
    assert version["extractor"]["name"] == "second"
    assert version["options"]["regularisation"] == 0.5
    assert version["options"]["moved_from"] == "tiny"
    published = client.post("/v1/heads/shades/versions/2/publish").json()
    assert (published["extractor"]["name"], published["published_version"]) == ("second", 2)


def test_publishing_back_says_what_to_do_when_embeddings_are_gone(
    client: TestClient, moving: Registry, teach: Teach, app_engine: Engine
) -> None:
    teach("shades")
    assert client.post("/v1/heads/shades/move", json={"extractor": "second", "switch": "always"}).is_success
    app_engine.store.embeddings.prune(0)
    error = check(client.post("/v1/heads/shades/versions/1/publish"), 409, "embeddings_missing")
    assert "/v1/heads/shades/move" in error["message"]
    assert client.get("/v1/heads/shades").json()["extractor"]["name"] == "second"
    back = client.post("/v1/heads/shades/move", json={"extractor": "tiny", "switch": "always"})
    assert back.json()["version"] == 3
    assert client.post("/v1/heads/shades/versions/1/publish").is_success


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_parameter"),
        ({"extractor": "second", "switch": "maybe"}, 422, "invalid_parameter"),
        ({"extractor": "second", "publish": True}, 422, "invalid_parameter"),
        ({"extractor": ["second"]}, 422, "invalid_parameter"),
        ({"extractor": "nobody"}, 404, "extractor_not_found"),
        ({"extractor": "tiny"}, 409, "same_extractor"),
        ({"extractor": "second", "classes": ["grey"]}, 422, "unknown_class"),
    ],
)
def test_a_move_that_cannot_be_is_refused(
    client: TestClient, moving: Registry, teach: Teach, body: dict, status: int, code: str
) -> None:
    teach("shades")
    before = client.get("/v1/heads/shades").json()
    check(client.post("/v1/heads/shades/move", json=body), status, code)
    assert client.get("/v1/heads/shades").json() == before


def test_inputs_that_were_not_kept_are_counted(client: TestClient, moving: Registry) -> None:
    made = client.put("/v1/heads/shades?keep_inputs=false", files=photographs(0, 3))
    assert made.status_code == 201
    error = check(client.post("/v1/heads/shades/move", json={"extractor": "second"}), 409, "inputs_not_kept")
    assert error["missing"] == 6


def test_there_is_no_head_to_move(client: TestClient, moving: Registry) -> None:
    check(client.post("/v1/heads/nobody/move", json={"extractor": "second"}), 404, "head_not_found")
