"""Advice on a head over REST: its shape, what it leaves alone, what is refused."""

from fastapi.testclient import TestClient

from service.schemas.advice import AdviceAnswer
from tests.service.api.conftest import Teach, check, photographs

ADVISE = "/v1/heads/shades/advise"


def test_advice_is_complete_and_changes_nothing(client: TestClient, teach: Teach) -> None:
    teach("shades", 0, 12)
    before = client.get("/v1/heads/shades").json()
    response = client.post(ADVISE)
    assert response.status_code == 200, response.text
    found = response.json()
    AdviceAnswer.model_validate(found, strict=True)
    assert set(found) == set(AdviceAnswer.model_fields)
    assert (found["head"], found["version"], found["extractor"]["name"]) == ("shades", 1, "tiny")
    assert (found["scenario"], found["similarity"], found["size"]) == (None, None, "small")
    assert found["recommended"]["next"] == {
        "method": "POST",
        "path": "/v1/heads/shades/train",
        "query": {"layers": "embedding"},
        "body": None,
    }
    assert found["figures"]["size"]["counts"] == {"dark": 12, "light": 12}
    assert client.get("/v1/heads/shades").json() == before
    assert {**client.post(ADVISE).json(), "timings_ms": 0} == {**found, "timings_ms": 0}


def test_the_recommended_call_can_be_made(client: TestClient, teach: Teach) -> None:
    teach("shades", 0, 12)
    step = client.post(ADVISE).json()["recommended"]["next"]
    done = client.request(step["method"], step["path"], params=step["query"])
    assert (done.status_code, done.json()["layers"]) == (201, ["embedding"])


def test_too_little_data_asks_for_more(client: TestClient, teach: Teach) -> None:
    teach("shades", 0, 1)
    found = client.post(ADVISE).json()
    assert (found["enough_data"], found["alternatives"]) == (False, [])
    assert found["recommended"]["next"]["path"] == "/v1/heads/shades/examples"
    codes = [warning["code"] for warning in found["warnings"]]
    assert codes[:2] == ["not_validated", "few_examples"]


def test_several_labels_are_advised_on(client: TestClient) -> None:
    learned = [*photographs(0, 8), *(("even", file) for _, file in photographs(0, 8)[::2])]
    client.put("/v1/heads/shades", files=learned, params={"task": "multi_label"}).raise_for_status()
    found = client.post(ADVISE).json()
    assert found["figures"]["size"]["classes"] == 3
    assert found["figures"]["leep"] is None


def test_what_cannot_be_advised_on_has_its_documented_error(client: TestClient, teach: Teach) -> None:
    check(client.post("/v1/heads/nowhere/advise"), 404, "head_not_found")
    one = [item for item in photographs(0, 3) if item[0] == "dark"]
    client.put("/v1/heads/shades", files=one, params={"train": "false"}).raise_for_status()
    check(client.post(ADVISE), 422, "too_few_classes")
    teach("shades")
    error = check(client.post(ADVISE, params={"layers": "auto"}), 422, "invalid_parameter")
    assert error["param"] == "layers"
    check(client.get(ADVISE), 405, "method_not_allowed")
