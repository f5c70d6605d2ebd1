"""What wraps every request: an id, security headers, metrics, and one shape for every error.

Knows no route by name. Answers for exceptions that nobody foresaw with a 500 that tells no internals.
"""

import logging
import random
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import metrics
from service.errors import ApiError, api_error
from training.errors import HeadstartError

logger = logging.getLogger("headstart.api")
access = logging.getLogger("headstart.access")

REQUEST_ID_HEADER = "X-Request-ID"
ACCEPTED_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:;"
    " style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
}
REQUEST_ID_NAME = REQUEST_ID_HEADER.lower().encode("ascii")
SECURITY_PAIRS = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
PLACES = ("query", "path", "header", "body")
CODES_OF_STATUS = {404: "not_found", 405: "method_not_allowed"}


# The system's randomness costs a call that lets go of the interpreter; ids must be different, not secret.
_random = random.Random()  # noqa: S311


def new_request_id() -> str:
    """32 hexadecimal digits."""
    return f"{_random.getrandbits(128):032x}"


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response; non-finite numbers become null, as JSON has none."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type="application/json")


def error_answer(error: ApiError, request_id: str) -> Response:
    return answer(error.body(request_id), error.status, error.headers)


class Envelope:
    """The outermost ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the HTTP server leaves the body out
        start = time.perf_counter()
        given = dict(scope["headers"]).get(REQUEST_ID_NAME, b"").decode("latin-1")
        request_id = given if given and ACCEPTED_REQUEST_ID.fullmatch(given) else new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = (REQUEST_ID_NAME, request_id.encode("ascii"))
                message["headers"] = [*message["headers"], own, *SECURITY_PAIRS]
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except Exception:
            if status:
                raise
            logger.exception("request %s failed", request_id)
            error = ApiError(500, "internal_error", "something went wrong here; the log has the request id")
            await error_answer(error, request_id)(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - start
            _observe(scope, status, seconds)
            if access.isEnabledFor(logging.INFO):
                _log(scope, status, seconds, request_id)


def _log(scope: Scope, status: int, seconds: float, request_id: str) -> None:
    # The path as it was sent, in ASCII: decoded it may hold line ends. Queries may hold what is private.
    client = scope.get("client") or ("-", 0)
    path = scope.get("raw_path", b"").decode("ascii", "replace")
    access.info("%s %s %s %d %.1f ms %s", client[0], scope["method"], path, status, seconds * 1e3, request_id)


def _observe(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "unmatched")
    metrics.observe_request(scope["method"], route, status, seconds)


def refusal(request: Request, error: Exception) -> Response | None:
    """The answer to a documented error; None for any other exception."""
    request_id = request.state.request_id
    if isinstance(error, ApiError):
        return error_answer(error, request_id)
    if isinstance(error, HeadstartError):
        found = api_error(error)
        if found.status >= 500:
            logger.error("request %s: %s", request_id, error)
        return error_answer(found, request_id)
    return None


def install_error_handlers(app: FastAPI, tell: Callable[[Request, Exception], Awaitable[None]]) -> None:
    """Render every documented error in the one shape.

    Parameters
    ----------
    tell : called with each of them before it is answered.
    """

    @app.exception_handler(ApiError)
    @app.exception_handler(HeadstartError)
    async def documented(request: Request, error: Exception) -> Response | None:
        await tell(request, error)
        return refusal(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return error_answer(validation_error(error.errors()), request.state.request_id)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        code = CODES_OF_STATUS.get(error.status_code, "http_error")
        headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
        found = ApiError(error.status_code, code, str(error.detail), headers=headers)
        return error_answer(found, request.state.request_id)


def _allowed(request: Request) -> str:
    """The methods that a path has; a route knows only its own, and one path has several."""
    routes = request.app.router.routes

    def has(method: str) -> bool:
        asked = {**request.scope, "method": method}
        return any(route.matches(asked)[0] is Match.FULL for route in routes)

    allowed = {method for method in METHODS if has(method)}
    return ", ".join(sorted(allowed | ({"HEAD"} if "GET" in allowed else set())))


def validation_error(problems: Any) -> ApiError:
    """pydantic's findings as one error: the first is named, all are counted."""
    first = problems[0]
    place = [str(part) for part in first["loc"] if part not in PLACES]
    if first["type"] == "json_invalid":
        return ApiError(400, "malformed_json", f"the body is not JSON: {first['ctx']['error']}")
    more = f" ({len(problems)} problems in all)" if len(problems) > 1 else ""
    return ApiError(422, "invalid_parameter", f"{first['msg']}{more}", param=".".join(place) or None)
