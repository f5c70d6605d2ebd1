"""The shortest way to the routes that are called most.

Finding a route and solving its dependencies takes FastAPI longer than a prediction from the cache. For a few
routes with plain parameters the same is done here from what FastAPI itself compiled. Whatever is not plainly
right (a parameter that is unknown, repeated or out of bounds) is left to FastAPI, which refuses it as ever.
Knows no route by name, and nothing of what routes do.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

Dependency = Callable[[Request], Any]


class NotPlainError(TypeError):
    """A route, or what it depends on, needs more than the lane can do. A mistake of this project."""


@dataclass(frozen=True)
class Stop:
    """A route of the lane.

    Parameters
    ----------
    route : as FastAPI compiled it.
    shared : what all routes depend on; awaited first, in order.
    """

    route: APIRoute
    shared: Sequence[Dependency]

    def __post_init__(self) -> None:
        own = self.route.dependant
        needs_more = own.header_params or own.cookie_params or own.body_params or own.response_param_name
        if needs_more or own.background_tasks_param_name or len(own.query_params) > 1:
            raise NotPlainError(f"{self.route.path}: only path, query model, request and plain dependencies")
        for dependency in self.shared:
            _require_plain(get_dependant(path="/", call=dependency))
        for dependant in own.dependencies:
            _require_plain(dependant)
        _ = self.query_model

    @cached_property
    def methods(self) -> frozenset[str]:
        return frozenset(self.route.methods or ())

    @cached_property
    def query_model(self) -> type[BaseModel] | None:
        if not self.route.dependant.query_params:
            return None
        model = self.route.dependant.query_params[0].field_info.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise NotPlainError(f"{self.route.path}: query parameters must be one model")
        return model

    @cached_property
    def by_default(self) -> BaseModel | None:
        """The query parameters where none is given; None if one is needed."""
        try:
            return self.query_model.model_validate({}) if self.query_model else None
        except ValidationError:
            return None

    def values(self, request: Request, path: Mapping[str, str]) -> dict[str, Any] | None:
        """Path and query parameters by name; None if FastAPI has to see to them."""
        own = self.route.dependant
        values: dict[str, Any] = {}
        for field in own.path_params:
            values[field.name], errors = field.validate(path[field.alias])
            if errors:
                return None
        if self.query_model is None:
            return values
        if not request.scope["query_string"] and self.by_default is not None:
            values[own.query_params[0].name] = self.by_default
            return values
        query = request.query_params.multi_items()
        given = dict(query)
        if len(given) < len(query):
            return None
        try:
            values[own.query_params[0].name] = self.query_model.model_validate(given)
        except ValidationError:
            return None
        return values

    async def answer(self, request: Request, values: dict[str, Any]) -> Response:
        own = self.route.dependant
        for dependency in self.shared:
            await dependency(request)
        for dependant in own.dependencies:
            solved = await dependant.call(request)  # type: ignore[misc]
            if dependant.name:
                values[dependant.name] = solved
        if own.request_param_name:
            values[own.request_param_name] = request
        response: Response = await self.route.endpoint(**values)
        return response


class Lane:
    """ASGI middleware, the innermost: answers requests to some routes and hands on all others.

    Parameters
    ----------
    app : the application that all routes belong to.
    stops : the routes of the lane.
    refusal : the answer to a documented error; None for other exceptions, which go on.

    Raises
    ------
    NotPlainError
        A route needs more than the lane can do.
    """

    def __init__(
        self, app: ASGIApp, stops: Sequence[Stop], refusal: Callable[[Request, Exception], Response | None]
    ) -> None:
        self.app = app
        self._stops = tuple(stops)
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for stop in self._stops:
                found = stop.route.path_regex.match(scope["path"])
                if found and scope["method"] in stop.methods:
                    values = stop.values(Request(scope), found.groupdict())
                    if values is not None:
                        await self._answer(stop, values, scope, receive, send)
                        return
        await self.app(scope, receive, send)

    async def _answer(
        self, stop: Stop, values: dict[str, Any], scope: Scope, receive: Receive, send: Send
    ) -> None:
        scope["route"] = stop.route
        request = Request(scope, receive, send)
        try:
            response = await stop.answer(request, values)
        except Exception as error:
            refused = self._refusal(request, error)
            if refused is None:
                raise
            response = refused
        await response(scope, receive, send)


def _require_plain(dependant: Dependant) -> None:
    """An `async def` that takes the request by position and depends on nothing else."""
    parameters = inspect.signature(dependant.call).parameters if dependant.call else {}
    if not inspect.iscoroutinefunction(dependant.call) or list(parameters) != [dependant.request_param_name]:
        raise NotPlainError(f"{dependant.call}: expected an async function of the request alone")
