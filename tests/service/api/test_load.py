"""More requests than a process takes, and requests that may not take long."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from service.api import create_app
from service.config import Settings
from service.engine import BRIEF_TOGETHER, Engine
from service.preparation import prepare
from service.waiting.patience import ENDLESS
from tests.service.api.conftest import photographs
from tests.service.images import png

TIMEOUT = "X-Request-Timeout-S"


@contextmanager
def serving(settings: Settings, *, most: int) -> Iterator[TestClient]:
    settings = replace(settings, max_in_progress=most, request_timeout_s=30.0, threads=1)
    prepare(settings)
    with TestClient(create_app(settings)) as client:
        client.put("/v1/heads/pets", files=photographs(0, 6)).raise_for_status()
        yield client


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with serving(settings, most=3) as client:
        yield client


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.001)


@pytest.fixture
def engine(client: TestClient) -> Engine:
    return client.app.state.engine  # type: ignore[attr-defined]


@contextmanager
def busy(engine: Engine) -> Iterator[None]:
    """The only turn is taken."""
    with engine.turns.turn(ENDLESS):
        yield


def test_what_would_wait_too_long_for_its_time_is_refused_at_once(client: TestClient, engine: Engine) -> None:
    waited: list[int] = []

    def predict(number: int) -> None:
        waited.append(client.post("/v1/heads/pets/predict", content=png(800 + number)).status_code)

    for _ in range(40):
        with engine.turns.turn(ENDLESS):  # turns take long of late
            time.sleep(0.02)
    with busy(engine):
        threads = [threading.Thread(target=predict, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: engine.turns.wait_s(engine.admission.answering) >= 0.035)
        hasty = client.post("/v1/heads/pets/predict", content=png(1), headers={TIMEOUT: "0.03"})
        assert (hasty.status_code, hasty.json()["error"]["code"]) == (429, "queue_full")
        assert "too long for" in hasty.json()["error"]["message"]
        assert hasty.headers["Retry-After"] == "1"
    for thread in threads:
        thread.join()
    assert waited == [200, 200]
    patient = client.post("/v1/heads/pets/predict", content=png(1), headers={TIMEOUT: "20"})
    assert patient.status_code == 200


def test_beyond_the_bound_a_request_is_told_to_come_back(client: TestClient, engine: Engine) -> None:
    answers: list[int] = []

    def predict(number: int) -> None:
        answers.append(client.post("/v1/heads/pets/predict", content=png(900 + number)).status_code)

    with busy(engine):
        threads = [threading.Thread(target=predict, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: engine.admission.in_progress == 3)
        refused = [
            client.post("/v1/heads/pets/predict", content=png(1)),
            client.post("/v1/embeddings", content=png(1)),
            client.put("/v1/heads/others", files=photographs(20, 22)),
            client.post("/v1/heads/pets/examples", files=photographs(20, 22)),
            client.post("/v1/heads/pets/evaluate", files=photographs(20, 22)),
        ]
        assert client.get("/v1/heads").status_code == 200  # what needs no network goes on
    for thread in threads:
        thread.join()
    assert answers == [200, 200, 200]
    for response in refused:
        assert (response.status_code, response.json()["error"]["code"]) == (429, "queue_full")
        assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert client.get("/v1/heads/others").status_code == 404
    assert client.post("/v1/heads/pets/predict", content=png(1)).status_code == 200


def test_a_request_that_waits_too_long_is_given_up_and_changes_nothing(
    client: TestClient, engine: Engine
) -> None:
    with busy(engine):
        short = {TIMEOUT: "0.05"}
        responses = [
            client.post("/v1/heads/pets/predict", content=png(901), headers=short),
            client.post("/v1/heads/pets/examples", files=photographs(20, 22), headers=short),
        ]
        cached = client.post("/v1/embeddings", files=photographs(0, 1), headers=short)
    assert cached.status_code == 200  # it needed no turn
    for response in responses:
        assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert client.get("/v1/heads/pets").json()["examples"] == 12
    assert engine.turns.waiting == engine.admission.in_progress == 0


def test_one_that_no_thread_has_taken_yet_is_given_up_in_time(settings: Settings) -> None:
    with serving(settings, most=BRIEF_TOGETHER + 1) as client:
        engine = client.app.state.engine  # type: ignore[attr-defined]
        waiting: list[threading.Thread] = []
        with busy(engine):
            for number in range(BRIEF_TOGETHER):
                send = threading.Thread(
                    target=client.post, args=("/v1/embeddings",), kwargs={"content": png(950 + number)}
                )
                send.start()
                waiting.append(send)
            wait_until(lambda: engine.admission.answering == BRIEF_TOGETHER)
            start = time.monotonic()
            response = client.post("/v1/embeddings", content=png(990), headers={TIMEOUT: "0.05"})
            assert time.monotonic() - start < 2
        for send in waiting:
            send.join()
        assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert engine.turns.waiting == engine.admission.in_progress == 0


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "inf", ""])
def test_a_time_that_cannot_be_is_refused(client: TestClient, value: str) -> None:
    response = client.post("/v1/heads/pets/predict", content=png(1), headers={TIMEOUT: value})
    assert response.status_code == 422
    assert response.json()["error"]["param"] == TIMEOUT
