"""`Idempotency-Key`: carried out once, answered as often as it is sent."""

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from service.access.scopes import SCOPE_OF, is_write
from service.engine import Engine
from service.http import once
from service.store import Caller, Change, Once, RequestTakenOverError, StoreUnavailableError, tables
from service.store.idempotency import Idempotency
from tests.service.api.conftest import Teach, check, photographs

requests = tables.idempotent_requests


def keyed(key: str | None = None) -> dict[str, str]:
    return {once.HEADER: key or uuid.uuid4().hex}


def rows(engine: Engine) -> int:
    with engine.store._database.single() as connection:
        return connection.execute(select(func.count()).select_from(requests)).scalar_one()


def age(engine: Engine, **columns: datetime) -> None:
    """Let time pass for all keys."""
    with engine.store._database.write() as connection:
        connection.execute(update(requests).values(**columns))


def test_every_write_has_the_header_in_openapi_and_nothing_else(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    having = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if any(parameter["name"] == once.HEADER for parameter in operation.get("parameters", []))
    }
    assert having == {operation for operation in SCOPE_OF if is_write(operation)}
    for operation in having:
        method, path = operation.split(" ")
        assert {"409", "422"} <= document["paths"][path][method.lower()]["responses"].keys()


def test_the_same_request_again_gives_the_same_answer_and_changes_nothing(client: TestClient) -> None:
    headers = keyed()
    first = client.put("/v1/heads/pets", files=photographs(0, 4), headers=headers)
    # Each call has another multipart boundary.
    again = client.put("/v1/heads/pets", files=photographs(0, 4), headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert (first.headers.get(once.REPEATED_HEADER), again.headers[once.REPEATED_HEADER]) == (None, "true")
    assert again.headers["X-Request-ID"] != first.headers["X-Request-ID"]
    assert [row["version"] for row in client.get("/v1/heads/pets/versions").json()["versions"]] == [1]


def test_every_kind_of_write_is_made_once(client: TestClient, teach: Teach) -> None:
    teach("pets")
    example = client.get("/v1/heads/pets/examples").json()["examples"][0]["id"]
    file = client.get("/v1/heads/pets/export").content
    examples = "/v1/heads/pets/examples"
    calls = (
        ("POST", examples, {"files": photographs(10, 11)}),
        ("PATCH", f"{examples}/{example}", {"json": {"label": "light"}}),
        ("DELETE", f"{examples}/{example}", {}),
        ("PATCH", f"{examples}?label=light", {"json": {"label": "bright"}}),
        ("POST", "/v1/heads/pets/train", {}),
        ("POST", "/v1/heads/pets/versions", {"content": file}),
        ("POST", "/v1/heads/pets/versions/1/publish", {}),
        ("POST", "/v1/heads/pets/finetune", {}),
        ("DELETE", "/v1/heads/pets", {}),
    )
    for method, path, body in calls:
        headers = keyed()
        answers = [client.request(method, path, headers=headers, **body) for _ in range(2)]
        assert answers[0].status_code < 300, (method, path, answers[0].text)
        assert [a.status_code for a in answers] == [answers[0].status_code] * 2, (method, path)
        assert answers[1].content == answers[0].content
        assert answers[1].headers.get("Location") == answers[0].headers.get("Location")
        assert once.REPEATED_HEADER in answers[1].headers, (method, path)
    assert [event["action"] for event in client.get("/v1/audit").json()["events"]].count("head.delete") == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v1/heads/pets", {"files": photographs(0, 5)}),
        ("PUT", "/v1/heads/pets?train=false", {"files": photographs(0, 4)}),
        ("PUT", "/v1/heads/birds", {"files": photographs(0, 4)}),
        ("POST", "/v1/heads/pets/examples", {"files": photographs(0, 4)}),
    ],
)
def test_another_request_with_the_key_is_refused_and_changes_nothing(
    client: TestClient, method: str, path: str, body: dict
) -> None:
    headers = keyed()
    client.put("/v1/heads/pets", files=photographs(0, 4), headers=headers)
    before = client.get("/v1/heads").json()
    check(client.request(method, path, headers=headers, **body), 422, "idempotency_key_reused")
    assert client.get("/v1/heads").json() == before


def test_what_was_refused_may_be_mended_under_the_same_key(client: TestClient, app_engine: Engine) -> None:
    headers = keyed()
    check(client.put("/v1/heads/pets", files=photographs(0, 1)[:1], headers=headers), 422, "too_few_classes")
    assert rows(app_engine) == 0
    assert client.put("/v1/heads/pets", files=photographs(0, 4), headers=headers).status_code == 201


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 256, "caf\xe9", "a\tb"])
def test_a_key_that_is_none_is_refused(client: TestClient, key: str, app_engine: Engine) -> None:
    response = client.post("/v1/heads/pets/train", headers=[(b"Idempotency-Key", key.encode("latin-1"))])
    assert check(response, 422, "invalid_parameter")["param"] == once.HEADER
    assert rows(app_engine) == 0


def test_two_keys_are_refused_and_what_only_asks_needs_none(
    client: TestClient, teach: Teach, app_engine: Engine
) -> None:
    teach("pets")
    twice = [(once.HEADER, "one"), (once.HEADER, "two")]
    check(client.post("/v1/heads/pets/train", headers=twice), 422, "invalid_parameter")
    assert client.get("/v1/heads", headers=keyed("a b")).status_code == 200
    asked = client.post("/v1/heads/pets/predict", files=photographs(0, 1), headers=keyed())
    assert asked.status_code == 200
    assert rows(app_engine) == 0


def test_requests_at_once_are_one_change_and_all_have_its_answer(client: TestClient, teach: Teach) -> None:
    teach("pets")
    headers = keyed()
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(client.post, "/v1/heads/pets/train", headers=headers) for _ in range(8)]
        answers = [call.result() for call in calls]
    assert {(a.status_code, a.content) for a in answers} == {(201, answers[0].content)}
    assert client.get("/v1/heads/pets").json()["published_version"] == 2


@contextmanager
def held(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Trainings wait for the event when they have been carried out and before they are answered."""
    go, begun = threading.Event(), threading.Event()
    finish = Idempotency.finish

    def wait(*arguments: object) -> None:
        begun.set()
        assert go.wait(30)
        finish(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Idempotency, "finish", wait)
    yield go
    go.set()
    monkeypatch.undo()


def test_one_that_waits_too_long_is_told_to_come_back(
    client: TestClient, teach: Teach, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach("pets")
    headers = keyed()
    monkeypatch.setattr(once, "WAIT_S", 0.2)
    with ThreadPoolExecutor(1) as pool, held(client, monkeypatch) as go:
        first = pool.submit(client.post, "/v1/heads/pets/train", headers=headers)
        while client.get("/v1/heads/pets").json()["published_version"] == 1:
            pass
        refused = client.post("/v1/heads/pets/train", headers=headers)
        check(refused, 409, "request_in_progress")
        assert refused.headers["Retry-After"] == "1"
        go.set()
        assert first.result().status_code == 201
    again = client.post("/v1/heads/pets/train", headers=headers)
    assert again.content == first.result().content


def test_after_a_crash_before_the_change_the_request_is_carried_out(
    client: TestClient, teach: Teach, app_engine: Engine
) -> None:
    teach("pets")
    headers = keyed("crashed")
    # What a process leaves that is killed while it works.
    _claim(client, app_engine, headers)
    age(app_engine, lease_until=datetime.now(UTC) - timedelta(seconds=1))
    assert client.post("/v1/heads/pets/train", headers=headers).json()["version"] == 2


def test_after_a_crash_between_change_and_answer_it_is_told_what_was_done(
    client: TestClient, teach: Teach, app_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach("pets")
    headers = keyed()

    def lose(*arguments: object) -> None:
        raise StoreUnavailableError("the process ended here")

    monkeypatch.setattr(Idempotency, "finish", lose)
    # Its client had the answer all the same: the change was made.
    assert client.post("/v1/heads/pets/train", headers=headers).status_code == 201
    monkeypatch.undo()
    age(app_engine, lease_until=datetime.now(UTC) - timedelta(seconds=1))
    error = check(client.post("/v1/heads/pets/train", headers=headers), 409, "answer_lost")
    assert error["done"] == {"action": "head.change", "target": "pets", "version": 2, "published": True}
    assert client.get("/v1/heads/pets").json()["published_version"] == 2


def test_an_attempt_that_was_overtaken_can_change_nothing_any_more(
    client: TestClient, teach: Teach, app_engine: Engine
) -> None:
    teach("pets")
    headers = keyed("slow")
    slow = _claim(client, app_engine, headers)
    age(app_engine, lease_until=datetime.now(UTC) - timedelta(seconds=1))
    assert client.post("/v1/heads/pets/train", headers=headers).status_code == 201
    head = app_engine.store.heads.get("pets")
    late = Change(
        head="pets",
        extractor_name=head.extractor_name,
        extractor_digest=head.extractor_digest,
        head_id=head.id,
        expected_revision=head.revision,
    )
    with pytest.raises(RequestTakenOverError):
        app_engine.store.of(Caller(once=slow)).heads.commit(late)
    assert app_engine.store.heads.get("pets") == head


def test_an_expired_key_is_free_for_another_request_and_is_forgotten(
    client: TestClient, teach: Teach, app_engine: Engine
) -> None:
    teach("pets")
    for number in range(3):
        client.post("/v1/heads/pets/train", headers=keyed(f"k{number}"))
    age(app_engine, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert client.put("/v1/heads/birds", files=photographs(0, 4), headers=keyed("k0")).status_code == 201
    assert rows(app_engine) == 1


def test_a_body_that_is_too_large_is_refused_as_ever(client: TestClient, app_engine: Engine) -> None:
    too_large = b"x" * (app_engine.settings.max_body_bytes + 1)
    check(client.put("/v1/heads/pets", content=too_large, headers=keyed()), 413, "body_too_large")
    assert rows(app_engine) == 0


def test_a_boundary_is_left_out_wherever_the_parts_end() -> None:
    body = b"--mark\r\nab--mark--mar" + b"k--"
    whole = b"".join(once._without(b"mark", [body]))
    assert whole == b"--\r\nab----" + b"--"
    for cut in range(1, len(body)):
        assert b"".join(once._without(b"mark", [body[:cut], body[cut:]])) == whole
    assert b"".join(once._without(b"mark", [bytes([byte]) for byte in body])) == whole


def _claim(client: TestClient, engine: Engine, headers: dict[str, str]) -> Once:
    """The key of a training, held by an attempt that does not go on."""
    taken: list[Once] = []
    claim = Idempotency.claim

    def stop(*arguments: object, **options: object) -> object:
        found = claim(*arguments, **options)  # type: ignore[arg-type]
        assert isinstance(found, Once)
        taken.append(found)
        raise StoreUnavailableError("the process ended here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Idempotency, "claim", stop)
        check(client.post("/v1/heads/pets/train", headers=headers), 503, "store_unavailable")
    return taken[0]
