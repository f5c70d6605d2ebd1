"""The door: no key, a wrong one, one of another scope or tenant, on every operation."""

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient

from service.access import door
from service.access.exposure import is_loopback
from service.access.scopes import ASKING, OPEN, SCOPE_OF, SCOPES, allows, require_declared
from service.access.secrets import Secret
from service.api import create_app
from service.config import Settings
from service.embedding.registry import Registry
from service.store import Caller, Limits, Store
from tests.access.conftest import OTHER, MakeKey, bearer, teach
from tests.service.api.conftest import check, photographs
from tests.service.images import png

DOCUMENT = create_app(Settings()).openapi()
OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
PLACES = {"number": "1", "example_id": "0" * 32, "job_id": "0" * 32}
EXAMPLES = {"files": photographs(0, 2)}
INPUT = {"content": png(3), "headers": {"Content-Type": "image/png"}}
# What a call of each operation on a head must carry to get as far as looking for it.
BODIES: dict[str, dict[str, Any]] = {
    "POST /v1/heads/{name}/examples": EXAMPLES,
    "PATCH /v1/heads/{name}/examples": {"json": {"label": "dusk"}, "params": {"label": "dark"}},
    "DELETE /v1/heads/{name}/examples": {"params": {"label": "dark"}},
    "PATCH /v1/heads/{name}/examples/{example_id}": {"json": {"label": "dusk"}},
    "POST /v1/heads/{name}/predict": INPUT,
    "POST /v1/heads/{name}/evaluate": EXAMPLES,
    "POST /v1/heads/{name}/move": {"json": {"extractor": "tiny"}},
}
# These make a head of that name where there is none: of the tenant that asks.
CREATING = {"PUT /v1/heads/{name}", "POST /v1/heads/{name}/versions", "POST /v1/heads/{name}/import"}


def call(client: TestClient, method: str, path: str, key: str | None, **fields: Any) -> Any:
    headers = {**fields.pop("headers", {}), **(bearer(key) if key else {})}
    return client.request(method, path, headers=headers, **fields)


def test_every_operation_declares_the_scope_that_it_needs() -> None:
    assert DOCUMENT["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    declared = {}
    for method, path, operation in OPERATIONS:
        name = f"{method} {path}"
        if name in OPEN and path != "/metrics":
            assert operation["security"] == []
            continue
        (needed, optional) = operation["security"]
        assert optional == {}
        assert set(needed["key"]) < set(SCOPES)
        assert {"401", "403", "429"} <= set(operation["responses"])
        if name not in OPEN:
            declared[name] = needed["key"][0]
    assert declared == SCOPE_OF
    assert set(SCOPE_OF) >= ASKING


def test_an_operation_without_a_scope_stops_the_start() -> None:
    router = APIRouter()
    router.add_api_route("/v1/backdoor", lambda: None, methods=["POST"])
    with pytest.raises(LookupError, match="POST /v1/backdoor"):
        require_declared(router.routes)


def test_every_operation_is_refused_without_a_key_of_its_scope(client: TestClient, key: MakeKey) -> None:
    keys = {scope: key(scope) for scope in SCOPES}
    for method, path, _ in OPERATIONS:
        name = f"{method} {path}"
        if name in OPEN:
            assert client.request(method, path).status_code == 200, name
            continue
        at = path.format(name="nobody", **PLACES)
        refused = check(call(client, method, at, None), 401, "key_required")
        assert "Bearer" in refused["message"]
        for scope in SCOPES:
            answer = call(client, method, at, keys[scope])
            if allows(scope, SCOPE_OF[name]):
                assert answer.status_code not in (401, 403), (name, scope, answer.text)
            else:
                check(answer, 403, "insufficient_scope")
                assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


def test_names_of_another_tenant_are_not_found_on_every_operation(client: TestClient, key: MakeKey) -> None:
    """Neither the status nor the words tell whether another tenant has a head, an example or a job."""
    ours, theirs = key("train"), key("train", OTHER)
    taught = teach(client, "pets", ours)
    job = call(client, "POST", "/v1/heads/pets/finetune", ours)
    assert job.status_code == 202, job.text
    there = {**PLACES, "example_id": taught["examples"]["ids"][0], "job_id": job.json()["id"]}
    absent = {**PLACES, "job_id": "f" * 32}
    kept = ("/v1/heads/pets", "/v1/heads/pets/examples", f"/v1/jobs/{there['job_id']}")
    before = [call(client, "GET", path, ours).json() for path in kept]
    tried = 0
    for method, path, _ in OPERATIONS:
        name = f"{method} {path}"
        if "{" not in path or name in CREATING or path == "/v1/extractors/{name}":
            continue
        fields = BODIES.get(name, {})
        found = call(client, method, path.format(name="pets", **there), theirs, **fields)
        nothing = call(client, method, path.format(name="nobody", **absent), theirs, **fields)
        assert (found.status_code, nothing.status_code) == (404, 404), (name, found.text, nothing.text)
        same = [answer.json()["error"] for answer in (found, nothing)]
        words = [
            error["message"].replace("nobody", "pets").replace(absent["job_id"], there["job_id"])
            for error in same
        ]
        assert words[0] == words[1], name
        assert same[0]["code"] == same[1]["code"] in ("head_not_found", "job_not_found"), name
        tried += 1
    assert tried >= 20
    assert [call(client, "GET", path, ours).json() for path in kept] == before
    for path, rows in (("/v1/heads", "heads"), ("/v1/jobs", "jobs")):
        assert call(client, "GET", path, theirs).json()[rows] == []
    check(call(client, "GET", "/v1/jobs?head=pets", theirs), 404, "head_not_found")
    for heads in ("pets", "p*", "*"):
        assert call(client, "POST", f"/v1/predict?heads={heads}", ours, **INPUT).status_code == 200
        check(call(client, "POST", f"/v1/predict?heads={heads}", theirs, **INPUT), 404, "head_not_found")
    told = call(client, "GET", "/v1/audit", key("admin", OTHER)).json()["events"]
    assert {event["outcome"] for event in told} == {"head_not_found", "job_not_found"}
    assert {event["actor"] for event in told} == {f"key {theirs.split('_')[1]}"}


def test_tenants_may_have_heads_of_the_same_name(client: TestClient, key: MakeKey) -> None:
    ours, theirs = key("train"), key("train", OTHER)
    first = teach(client, "pets", ours)
    second = teach(client, "pets", theirs, 0, 8)
    assert (first["version"], second["version"]) == (1, 1)
    # The same inputs: that they are cached for one tenant is not told to the other.
    assert (second["examples"]["embedded"], second["examples"]["cached"]) == (16, 0)
    assert call(client, "DELETE", "/v1/heads/pets", theirs).status_code == 204
    assert call(client, "GET", "/v1/heads/pets", ours).json()["examples"] == 12
    assert call(client, "POST", "/v1/embeddings", ours, content=png(7)).json()["embedded"] == 1
    embedded = call(client, "POST", "/v1/embeddings", theirs, content=png(7)).json()
    assert (embedded["embedded"], embedded["cached"]) == (1, 0)
    again = call(client, "POST", "/v1/embeddings", theirs, content=png(7)).json()
    assert (again["embedded"], again["cached"]) == (0, 1)


def test_a_key_is_refused_once_it_is_revoked_or_has_expired(
    client: TestClient, store: Store, key: MakeKey
) -> None:
    now = datetime.now(UTC)
    valid, expired = key(), key(expires_at=now - timedelta(seconds=1))
    assert call(client, "GET", "/v1/heads", valid).status_code == 200
    check(call(client, "GET", "/v1/heads", expired), 401, "key_expired")
    secret = Secret.read(valid)
    assert secret is not None
    assert store.keys.revoke(secret.id)
    check(call(client, "GET", "/v1/heads", valid), 401, "key_revoked")
    # Revoking the last key does not open the door again.
    check(client.get("/v1/heads"), 401, "key_required")


NO_KEYS = (
    b"Bearer",
    b"Bearer ",
    b"Bearer hs_",
    b"Bearer \xff\xfe\x00",
    b"Bearer h\xc3\xa9_0123456789abcdef_" + b"a" * 43,
    b"Bearer hs_0123456789abcdef_" + b"a" * 42,
    b"Bearer hs_0123456789ABCDEF_" + b"a" * 43,
    b"Bearer hs_0123456789abcdef_" + b"a" * 43 + b", Bearer x",
    b"Bearer hs_" + b"0" * 30_000,
    b"Basic aHM6aHM=",
    b"hs_0123456789abcdef_" + b"a" * 43,
    b"Digest username=x",
    "Bearer ͏".encode(),
    b"",
)


def test_a_header_that_is_no_key_is_refused(client: TestClient, key: MakeKey) -> None:
    key()
    for value in NO_KEYS:
        answer = client.get("/v1/heads", headers=[(b"Authorization", value)])
        assert answer.status_code == 401, value[:80]
        assert answer.json()["error"]["code"] in ("invalid_key", "key_required"), value[:80]
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_key_with_another_secret_or_id_is_refused(client: TestClient, key: MakeKey) -> None:
    secret = Secret.read(key())
    assert secret is not None
    assert call(client, "GET", "/v1/heads", secret.text).status_code == 200
    for wrong in (Secret(secret.id, Secret.new().value), Secret(Secret.new().id, secret.value)):
        check(call(client, "GET", "/v1/heads", wrong.text), 401, "invalid_key")
    # The scheme is a word in any case (RFC 9110, 11.1), the key is not.
    assert client.get("/v1/heads", headers={"Authorization": f"bEARER  {secret.text}"}).status_code == 200


def test_several_authorization_headers_are_not_guessed_at(client: TestClient, key: MakeKey) -> None:
    good = f"Bearer {key()}".encode()
    for other in (b"Bearer x", good):
        answer = client.get("/v1/heads", headers=[(b"Authorization", good), (b"authorization", other)])
        check(answer, 400, "malformed_request")


def test_a_key_in_the_query_is_refused_even_beside_a_good_one(client: TestClient, key: MakeKey) -> None:
    good = key()
    for query in (
        {"access_token": good},
        {"API_KEY": "anything"},
        {"cursor": good},
    ):
        answer = client.get("/v1/heads", params=query, headers=bearer(good))
        error = check(answer, 400, "key_in_query")
        assert good not in error["message"]
    assert client.get("/v1/heads?cursor=%68%73_", headers=bearer(good)).status_code == 200
    doubly = "&".join(f"cursor=hs%5F{good[3:]}" for _ in range(2))
    check(client.get(f"/v1/heads?{doubly}", headers=bearer(good)), 400, "key_in_query")


def test_the_secret_is_compared_in_constant_time_whether_the_id_is_known_or_not(
    client: TestClient, key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[str, str]] = []
    real = hmac.compare_digest

    def spy(one: str, other: str) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr("service.access.secrets.hmac", SimpleNamespace(compare_digest=spy))
    secret = Secret.read(key())
    assert secret is not None
    for text in (secret.text, Secret(secret.id, "A" * 43).text, Secret.new().text):
        call(client, "GET", "/v1/heads", text)
    assert len(compared) == 3
    assert all(len(one) == len(other) == 64 for one, other in compared)
    assert compared[0][0] == compared[0][1] == hashlib.sha256(secret.value.encode()).hexdigest()


def test_a_rate_limit_says_when_to_come_again(
    client: TestClient, store: Store, key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=datetime.now(UTC).timestamp() + 5)
    monkeypatch.setattr(door, "time", SimpleNamespace(time=lambda: clock.now))
    limited, free = key(rate=(0.5, 3)), key()

    def statuses(count: int) -> list[int]:
        return [call(client, "GET", "/v1/heads", limited).status_code for _ in range(count)]

    assert statuses(5) == [200, 200, 200, 429, 429]
    refused = call(client, "GET", "/v1/heads", limited)
    check(refused, 429, "rate_limited")
    assert refused.headers["Retry-After"] == "2"
    assert call(client, "GET", "/v1/heads", free).status_code == 200
    clock.now += 2
    assert statuses(2) == [200, 429]
    clock.now += 1000
    assert statuses(4) == [200, 200, 200, 429]
    clock.now -= 500  # a server whose clock is behind adds nothing, and takes nothing away
    assert statuses(1) == [429]
    clock.now += 502
    assert statuses(2) == [200, 429]


def test_without_any_key_this_machine_is_let_in(client: TestClient) -> None:
    assert client.get("/v1/heads").status_code == 200
    # Clients that must send something, such as that of OpenAI, send anything.
    assert client.get("/v1/heads", headers={"Authorization": "Bearer unused"}).status_code == 200
    check(client.get("/v1/heads", headers=bearer(Secret.new().text)), 401, "invalid_key")


@pytest.fixture
def reached(client: TestClient) -> Iterator[Any]:
    """Ask as if the connection had come in at an address of this machine."""

    def ask(address: str, **headers: str) -> int:
        with TestClient(_at(client.app, address), base_url="http://127.0.0.1:3000") as outside:
            return outside.get("/v1/heads", headers={"Host": "127.0.0.1:3000", **headers}).status_code

    return ask


def _at(app: Any, address: str) -> Any:
    async def called(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await app({**scope, "server": (address, 3000)}, receive, send)

    return called


def test_without_any_key_others_are_not_let_in(reached: Any, client: TestClient, key: MakeKey) -> None:
    assert reached("127.0.0.1") == reached("::1") == reached("::ffff:127.0.0.1") == 200
    assert reached("192.168.1.4") == reached("fe80::1%eth0") == reached("::ffff:10.0.0.1") == 403
    assert reached("127.0.0.1", Host="localhost:3000") == reached("::1", Host="[::1]:3000") == 200
    # A page of elsewhere, in a browser on this machine: by its own name for it, or across sites.
    assert reached("127.0.0.1", Host="rebound.example:3000") == 403
    assert (
        reached("127.0.0.1", Origin="https://elsewhere.example") == reached("127.0.0.1", Origin="null") == 403
    )
    assert reached("127.0.0.1", Origin="http://127.0.0.1:3000") == 200
    made = key()
    assert reached("192.168.1.4", **bearer(made)) == 200
    assert reached("127.0.0.1") == 401


def test_which_addresses_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.0.1", "::1", "localhost", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "::ffff:0.0.0.0", "", "localhost.evil")))


def test_refused_writes_are_in_the_audit_log_and_requests_that_only_ask_are_not(
    client: TestClient, store: Store, key: MakeKey
) -> None:
    train, admin = key("train"), key("admin")
    teach(client, "pets", train)
    call(client, "DELETE", "/v1/heads/nobody", train, headers={"X-Request-ID": "mine-1"})
    call(client, "POST", "/v1/heads/nobody/predict", train, **INPUT)
    call(client, "GET", "/v1/heads/nobody", train)
    call(client, "DELETE", "/v1/heads/nobody", None)
    events = call(client, "GET", "/v1/audit?limit=2", admin).json()
    newest, created = events["events"]
    assert (newest["action"], newest["target"]) == ("DELETE /v1/heads/{name}", "nobody")
    assert (newest["outcome"], newest["request_id"]) == ("head_not_found", "mine-1")
    assert (created["action"], created["target"], created["outcome"]) == ("head.create", "pets", "ok")
    assert created["actor"] == newest["actor"] == f"key {train.split('_')[1]}"
    assert events["next"] == created["id"]
    older = call(client, "GET", f"/v1/audit?cursor={created['id']}", admin).json()
    assert older["next"] is None
    text = str(events) + str(older) + str(store.audit.list(all_tenants=True))
    assert train.split("_", 2)[2] not in text
    assert hashlib.sha256(train.split("_", 2)[2].encode()).hexdigest() not in text


def test_a_quota_is_a_403_and_nothing_is_changed(client: TestClient, store: Store, key: MakeKey) -> None:
    theirs = key("train", OTHER)
    store.tenants.limit(OTHER, Limits(heads=1))
    teach(client, "pets", theirs)
    answer = call(client, "PUT", "/v1/heads/more", theirs, **EXAMPLES)
    error = check(answer, 403, "quota_exceeded")
    assert "2 heads, and 1 are allowed" in error["message"]
    assert [head["head"] for head in call(client, "GET", "/v1/heads", theirs).json()["heads"]] == ["pets"]


def test_metrics_ask_for_a_key_where_the_settings_say_so(
    client: TestClient, key: MakeKey, settings: Settings
) -> None:
    key()
    assert client.get("/metrics").status_code == 200
    client.app.state.settings = replace(settings, metrics_need_key=True)  # type: ignore[attr-defined]
    check(client.get("/metrics"), 401, "key_required")
    check(client.get("/metrics", headers=bearer(key("predict", OTHER))), 403, "insufficient_scope")
    assert client.get("/metrics", headers=bearer(key("predict"))).status_code == 200
    for path in ("/livez", "/healthz", "/readyz", "/", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200, path


def test_an_extractor_of_a_tenant_is_not_there_for_others(
    client: TestClient, key: MakeKey, tapped_folder: Any
) -> None:
    engine = client.app.state.engine  # type: ignore[attr-defined]
    ours, theirs = key("train"), key("train", OTHER)
    registry = Registry.of(engine.settings, engine.store.of(Caller(tenant=OTHER)))
    registry.register(tapped_folder, tenant=OTHER)

    def names(of: str) -> list[str]:
        return [row["name"] for row in call(client, "GET", "/v1/extractors", of).json()["extractors"]]

    assert (names(ours), names(theirs)) == (["tiny"], ["tiny", "tapped"])
    made = call(client, "PUT", "/v1/heads/pets?extractor=tapped", theirs, **EXAMPLES)
    assert made.status_code == 201, made.text
    check(call(client, "GET", "/v1/extractors/tapped", ours), 404, "extractor_not_found")
    refused = call(client, "PUT", "/v1/heads/pets?extractor=tapped", ours, **EXAMPLES)
    check(refused, 404, "extractor_not_found")
    assert "registered: none" in refused.json()["error"]["message"]
    registry.sweep()
    assert call(client, "POST", "/v1/heads/pets/predict", theirs, **INPUT).status_code == 200
