"""The lane answers as FastAPI would: the same requests with and without it get the same answers."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.requests import Request
from starlette.responses import Response

from service.http.lane import Lane, NotPlainError, Stop
from tests.service.api.conftest import Teach
from tests.service.images import png

IMAGE = {"content": png(7), "headers": {"Content-Type": "image/png"}}
BROKEN = {"content": b"{", "headers": {"Content-Type": "application/json"}}
REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "plain": ("POST", "/v1/heads/pets/predict", IMAGE),
    "parameters": ("POST", "/v1/heads/pets/predict?top_k=1&threshold=0.5&version=1", IMAGE),
    "json": ("POST", "/v1/heads/pets/predict?top_k=2", {"json": {"input": "AAAA", "top_k": 1}}),
    "an unknown parameter": ("POST", "/v1/heads/pets/predict?topk=1", IMAGE),
    "a parameter twice": ("POST", "/v1/heads/pets/predict?top_k=1&top_k=2", IMAGE),
    "out of bounds": ("POST", "/v1/heads/pets/predict?top_k=0", IMAGE),
    "of the wrong type": ("POST", "/v1/heads/pets/predict?version=x", IMAGE),
    "an empty value": ("POST", "/v1/heads/pets/predict?version=", IMAGE),
    "no such head": ("POST", "/v1/heads/nobody/predict", IMAGE),
    "no such version": ("POST", "/v1/heads/pets/predict?version=9", IMAGE),
    "a name that cannot be": ("POST", "/v1/heads/-pets/predict", IMAGE),
    "a name of percents": ("POST", "/v1/heads/p%65ts/predict", IMAGE),
    "a slash in a name": ("POST", "/v1/heads/a%2Fb/predict", IMAGE),
    "a slash at the end": ("POST", "/v1/heads/pets/predict/", IMAGE),
    "another method": ("GET", "/v1/heads/pets/predict", {}),
    "not an image": ("POST", "/v1/heads/pets/predict", {"content": b"text"}),
    "no input": ("POST", "/v1/heads/pets/predict", {"json": {"input": []}}),
    "not JSON": (
        "POST",
        "/v1/embeddings",
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
    ),
    "embeddings": ("POST", "/v1/embeddings?encoding_format=base64", IMAGE),
    "another model": ("POST", "/v1/embeddings?model=nothing", IMAGE),
}


@pytest.fixture
def ask(client: TestClient, teach: Teach, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The status, headers and content of an answer, with the lane or without it."""
    teach("pets")
    original, taken = Lane._answer, []

    async def count(lane: Lane, *args: Any) -> None:
        taken.append(args[0])
        await original(lane, *args)

    monkeypatch.setattr(Lane, "_answer", count)

    def send(method: str, path: str, options: dict[str, Any], *, lane: bool) -> Any:
        taken.clear()
        with monkeypatch.context() as patch:
            if not lane:
                patch.setattr(Stop, "values", lambda *_: None)
            response = client.request(method, path, **options)
        content = response.json()
        content.pop("timings_ms", None)
        if "error" in content:
            content["error"].pop("request_id")
        headers = {k: v for k, v in response.headers.items() if k not in ("x-request-id", "content-length")}
        return (response.status_code, headers, content), bool(taken)

    return send


@pytest.mark.parametrize("kind", REQUESTS)
def test_an_answer_is_the_same_with_and_without_the_lane(ask: Callable[..., Any], kind: str) -> None:
    method, path, options = REQUESTS[kind]
    ask(method, path, options, lane=False)  # the second time the embedding is cached
    without, took = ask(method, path, options, lane=False)
    assert not took
    with_lane, _ = ask(method, path, options, lane=True)
    assert json.dumps(with_lane) == json.dumps(without)


def test_plain_requests_take_the_lane_and_others_do_not(ask: Callable[..., Any]) -> None:
    def takes(kind: str) -> bool:
        return ask(*REQUESTS[kind], lane=True)[1]

    taking = ("plain", "parameters", "json", "no such head", "not an image", "embeddings")
    assert all(takes(kind) for kind in taking)
    assert not any(takes(kind) for kind in ("an unknown parameter", "a parameter twice", "another method"))


async def wants_a_header(authorization: str) -> None:
    pass


async def wants_the_request(request: Request) -> None:
    pass


def test_a_route_that_needs_more_is_refused_rather_than_answered_without_it() -> None:
    app = FastAPI()

    @app.get("/needs-more")
    async def needs_more(user: str = Depends(wants_a_header)) -> Response:
        return Response(user)

    @app.get("/plain")
    async def plain() -> Response:
        return Response()

    routes = {route.path: route for route in app.routes if isinstance(route, APIRoute)}
    with pytest.raises(NotPlainError):
        Stop(routes["/needs-more"], ())
    with pytest.raises(NotPlainError):
        Stop(routes["/plain"], (wants_a_header,))
    Stop(routes["/plain"], (wants_the_request,))
