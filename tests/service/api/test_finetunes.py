"""Asking for a fine-tuning: what is written down, what is refused, and that nothing is left of a refusal."""

from dataclasses import asdict

import pytest
from fastapi.testclient import TestClient

from service.schemas.parameters import FinetuneRequest
from tests.service.api.conftest import Teach, check, photographs
from training.finetune import FinetuneOptions


def test_a_request_becomes_a_queued_job(client: TestClient, teach: Teach) -> None:
    teach("shades")
    body = {"strategy": "full", "epochs": 3, "publish": "never"}
    response = client.post("/v1/heads/shades/finetune", json=body)
    assert response.status_code == 202, response.text
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert client.get(response.headers["location"]).json() == job
    assert (job["kind"], job["head"], job["state"]) == ("finetune", "shades", "queued")
    expected = {**FinetuneOptions(strategy="full", epochs=3).as_dict(), "publish": "never"}
    assert job["options"] == expected
    assert [warning["code"] for warning in job["warnings"]] == ["no_worker"]


def test_a_head_has_one_unfinished_fine_tuning(client: TestClient, teach: Teach) -> None:
    teach("shades")
    teach("others", 20, 26)
    first = client.post("/v1/heads/shades/finetune").json()
    error = check(client.post("/v1/heads/shades/finetune"), 409, "job_exists")
    assert first["id"] in error["message"]
    assert client.post("/v1/heads/others/finetune").status_code == 202
    client.post(f"/v1/jobs/{first['id']}/cancel")
    assert client.post("/v1/heads/shades/finetune", content=b"").status_code == 202


def test_the_options_are_those_of_the_training_with_its_defaults() -> None:
    request = FinetuneRequest().model_dump()
    assert request.pop("publish") == "better"
    assert request == asdict(FinetuneOptions())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"strategy": "magic"}, "strategy"),
        ({"epochs": -1}, "epochs"),
        ({"epochs": 10**9}, "epochs"),
        ({"epochs": "3"}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"learning_rate": 1e-9}, "learning_rate"),
        ({"learning_rate": 5}, "learning_rate"),
        ({"batch_size": 1}, "batch_size"),
        ({"held_out": 0.9}, "held_out"),
        ({"seed": 2**40}, "seed"),
        ({"device": "cuda:0; rm"}, "device"),
        ({"keep": ""}, "keep"),
        ({"keep": "x" * 1000}, "keep"),
        ({"keep": "blocks.3", "strategy": "full"}, "keep"),
        ({"augment": "yes"}, "augment"),
        ({"publish": "always"}, "publish"),
        ({"run_folder": "/etc"}, "run_folder"),
        ({"name": "../../x"}, "name"),
        ([], "body"),
    ],
)
def test_hostile_options_are_refused(client: TestClient, teach: Teach, body: object, param: str) -> None:
    teach("shades")
    error = check(client.post("/v1/heads/shades/finetune", json=body), 422, "invalid_parameter")
    assert error["param"] == param
    assert client.get("/v1/jobs").json()["jobs"] == []


def test_broken_json_is_refused(client: TestClient, teach: Teach) -> None:
    teach("shades")
    for body in (b"{", b'{"epochs": NaN}', b'{"epochs": 1, "epochs": 2}'):
        check(client.post("/v1/heads/shades/finetune", content=body), 400, "malformed_json")
    error = check(client.post("/v1/heads/shades/finetune?epochs=3"), 422, "invalid_parameter")
    assert error["param"] == "epochs"


def test_a_head_that_cannot_be_trained_further_is_refused(client: TestClient) -> None:
    check(client.post("/v1/heads/none/finetune"), 404, "head_not_found")
    files = photographs(0, 4)
    client.put("/v1/heads/forgetful", files=files, params={"keep_inputs": False})
    error = check(client.post("/v1/heads/forgetful/finetune"), 409, "inputs_not_kept")
    assert error["missing"] == 8
    client.put("/v1/heads/several", files=files, params={"task": "multi_label"})
    check(client.post("/v1/heads/several/finetune"), 409, "task_mismatch")
    client.put("/v1/heads/single", files=files[:4], params={"train": False})
    check(client.post("/v1/heads/single/finetune"), 422, "too_few_classes")
    client.put("/v1/heads/rare", files=files[:5])
    check(client.post("/v1/heads/rare/finetune"), 422, "invalid_support_set")
    assert client.get("/v1/jobs").json()["jobs"] == []
