"""What the routes share: the engine of the process, work off the event loop, parameters of two places."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, ParamSpec, TypeVar

from anyio import to_thread
from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel, ValidationError

from service.access.door import started
from service.engine import Engine
from service.errors import ApiError
from service.http.envelope import validation_error
from service.ingest import parse_json, read_body
from service.schemas.parameters import Parameters
from service.store import Caller

MAX_JSON_BYTES = 1024 * 1024
MAX_JSON_ITEMS = 100_000

P = ParamSpec("P")
T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)
ParametersT = TypeVar("ParametersT", bound=Parameters)


async def _process(request: Request) -> Engine:
    return started(request)


async def _engine(request: Request) -> Engine:
    # Nobody but the door sets the caller: a route that was left without one cannot answer.
    caller: Caller = request.state.caller
    return started(request).of(caller)


EngineOf = Annotated[Engine, Depends(_engine)]
# The process itself, for those who watch it: not for what belongs to somebody.
ProcessOf = Annotated[Engine, Depends(_process)]


async def known_parameters(request: Request) -> None:
    """Refuse a query parameter that the route does not have: a typing error would be ignored otherwise.

    Raises
    ------
    ApiError
        422 `invalid_parameter`.
    """
    if not request.scope["query_string"]:
        return
    known = _query_names(request.scope["route"].dependant)
    for name in request.query_params:
        if name not in known:
            message = f"{name[:64]!r} is not a parameter of this call"
            raise ApiError(422, "invalid_parameter", message, param=name[:64])


def _query_names(dependant: Dependant) -> set[str]:
    names: set[str] = set()
    for parameter in dependant.query_params:
        kind = parameter.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names |= set(kind.model_fields)
        else:
            names.add(parameter.alias)
    return names


async def off_loop(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work (decode, network, fit, SQL) in a thread."""
    return await to_thread.run_sync(partial(function, *args, **kwargs))


async def read_model(request: Request, model: type[ModelT]) -> ModelT:
    """A small JSON object from the body; an empty body is an empty object.

    Raises
    ------
    ApiError
        400: not JSON. 413: larger than any such object. 422: not what the model asks for.
    """
    body = await read_body(request, MAX_JSON_BYTES)
    content = parse_json(body, MAX_JSON_ITEMS) if body else {}
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise validation_error(error.errors()) from error


def with_body(query: ParametersT, options: Mapping[str, Any]) -> ParametersT:
    """Query parameters, overridden by the same names in a JSON body.

    Raises
    ------
    ApiError
        422: the body has another name, or a value out of bounds.
    """
    if not options:
        return query
    try:
        return type(query).model_validate({**query.model_dump(exclude_unset=True), **options})
    except ValidationError as error:
        raise validation_error(error.errors()) from error
