"""The request body as chunks, never more of them than allowed. Knows no form of input."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.datastructures import Headers
from starlette.requests import Request

from service.errors import ApiError

# The rest of a refused body is not read by the application, so the connection cannot be used again.
CLOSE = {"Connection": "close"}
# More digits than any length has; int() of a longer string would be slow.
MAX_LENGTH_DIGITS = 19


async def body_chunks(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body of a request, refused as soon as it is known to be too large.

    Content-Length is checked first, then every byte is counted: a header proves nothing, and a chunked
    body has none.

    Raises
    ------
    ApiError
        413 `body_too_large`; 415 `unsupported_encoding`; 400 `malformed_request` for a Content-Length that
        is no number; 400 `incomplete_body` if the client leaves half way.
    """
    _check_encoding(request.headers)
    _check_length(request.headers, max_bytes)
    received, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            text = f"the client closed the connection after {received} bytes of the body"
            raise ApiError(400, "incomplete_body", text, headers=CLOSE)
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        received += len(chunk)
        if received > max_bytes:
            raise _too_large(max_bytes)
        if chunk:
            yield chunk


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body; raises what `body_chunks` raises."""
    async with aclosing(body_chunks(request, max_bytes)) as chunks:
        received = [chunk async for chunk in chunks]
    return received[0] if len(received) == 1 else b"".join(received)


def _check_encoding(headers: Headers) -> None:
    for value in headers.getlist("content-encoding"):
        for coding in value.split(","):
            if coding.strip().lower() not in {"", "identity"}:
                message = (
                    f"a body with Content-Encoding {coding.strip()[:40]!r} is not read; send it as it is"
                )
                raise ApiError(415, "unsupported_encoding", message, param="Content-Encoding", headers=CLOSE)


def _check_length(headers: Headers, max_bytes: int) -> None:
    for value in headers.getlist("content-length"):
        if not (value.isascii() and value.isdigit()):
            message = "Content-Length must be a whole number of bytes"
            raise ApiError(400, "malformed_request", message, param="Content-Length", headers=CLOSE)
        if len(value) > MAX_LENGTH_DIGITS or int(value) > max_bytes:
            raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> ApiError:
    message = f"a request body can have {max_bytes} bytes here, got more"
    return ApiError(413, "body_too_large", message, headers=CLOSE)
