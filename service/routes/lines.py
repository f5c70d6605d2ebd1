"""Answers line by line (`Accept: application/x-ndjson`): each input as soon as it is done, then a summary.

Bounded: a few slices of a batch are in work at once, and a client that reads slowly slows the work down.
Knows no head and no extractor.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.engine import Engine
from service.errors import ApiError, ItemError, api_error
from service.ingest import Batch
from service.waiting.admission import Admission, Place
from training.errors import HeadstartError

logger = logging.getLogger("headstart.lines")

MEDIA_TYPE = "application/x-ndjson"
OTHER_NAMES = frozenset({MEDIA_TYPE, "application/ndjson"})
FEWEST_OF_SLICE = 16  # so few inputs that they are soon done, so many that a look into the cache pays
SLICES_AT_ONCE = 3  # while one is scored and one is sent, the next is embedded
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class Answered:
    """What became of a slice: a JSON-ready answer for each usable input, and what is wrong with the rest."""

    answers: list[dict[str, Any]]
    rejected: tuple[ItemError, ...]


def wants_lines(request: Request) -> bool:
    """Whether the client asks for lines before it asks for JSON."""
    accept = ",".join(request.headers.getlist("accept"))
    if "ndjson" not in accept.lower():
        return False
    asked: dict[str, float] = {}
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        asked[name] = max(asked.get(name, 0.0), _weight(parameters))
    lines = max((asked.get(name, 0.0) for name in OTHER_NAMES), default=0.0)
    return lines > 0 and lines >= asked.get("application/json", 0.0)


def require_inputs(batch: Batch) -> None:
    """Refuse an empty batch before the first line.

    Raises
    ------
    ApiError
        422 `no_inputs`.
    """
    if batch.total == 0:
        raise ApiError(422, "no_inputs", "expected at least one input, found none")


class LineResponse(StreamingResponse):
    """The answer to a batch, line by line.

    Parameters
    ----------
    batch : with at least one item.
    work : from a part of the batch to its answers; called in threads, several at once.
    about : what the summary says beside its counts.
    place : of the request, left after the last line.
    """

    def __init__(
        self,
        request: Request,
        engine: Engine,
        batch: Batch,
        work: Callable[[Batch], Answered],
        *,
        about: Mapping[str, Any],
        place: Place,
    ) -> None:
        self._place = place
        size = max(FEWEST_OF_SLICE, 2 * engine.settings.thread_count)
        stream = _stream(request, engine.admission, _slices(batch, size), batch, work, about)
        super().__init__(stream, headers=HEADERS, media_type=MEDIA_TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._place.leave()


async def _stream(
    request: Request,
    admission: Admission,
    slices: Iterator[Batch],
    batch: Batch,
    work: Callable[[Batch], Answered],
    about: Mapping[str, Any],
) -> AsyncGenerator[bytes, None]:
    start = time.perf_counter()
    request_id = request.state.request_id
    running: set[asyncio.Task[tuple[bytes, int, int]]] = set()
    answered, rejected = 0, len(batch.rejected)
    try:
        if batch.rejected:
            yield b"".join(map(_error_line, batch.rejected))
        while True:
            while len(running) < SLICES_AT_ONCE and (part := next(slices, None)) is not None:
                running.add(asyncio.create_task(admission.answer(request, _lines, work, part)))
            if not running:
                break
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                text, good, bad = task.result()
                answered, rejected = answered + good, rejected + bad
                yield text
    except HeadstartError as error:
        logger.error("request %s: %s", request_id, error)
        yield _line(api_error(error).body(request_id))
        return
    except ApiError as error:
        yield _line(error.body(request_id))
        return
    finally:
        for task in running:
            task.cancel()
    total_ms = round((time.perf_counter() - start) * 1e3, 3)
    counts = {"inputs": batch.total, "answered": answered, "rejected": rejected}
    yield _line({"summary": {**about, **counts, "timings_ms": {"total": total_ms}}})


def _slices(batch: Batch, size: int) -> Iterator[Batch]:
    for start in range(0, len(batch.inputs), size):
        inputs = batch.inputs[start : start + size]
        yield Batch(inputs=inputs, rejected=(), total=len(inputs))


def _lines(work: Callable[[Batch], Answered], part: Batch) -> tuple[bytes, int, int]:
    try:
        found = work(part)
    except ApiError as error:
        if not error.items:
            raise
        found = Answered([], error.items)  # none of them can be used
    text = b"".join([*map(_line, found.answers), *map(_error_line, found.rejected)])
    return text, len(found.answers), len(found.rejected)


def _error_line(item: ItemError) -> bytes:
    return _line({"id": item.id, "index": item.index, "error": {"code": item.code, "message": item.message}})


def _line(content: Any) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _weight(parameters: list[str]) -> float:
    """The `q` of a media type (RFC 9110, 12.4.2); 1 without one, 0 for what is no number."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
