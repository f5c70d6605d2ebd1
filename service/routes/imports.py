"""`/v1/heads/{name}/import`: a head with its examples, from a file that another server gave."""

from contextlib import aclosing
from typing import IO

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.engine import Engine
from service.exchange.head_archive.members import PIECE_BYTES
from service.exchange.head_archive.writing import unavailable_if_full
from service.http.envelope import answer
from service.ingest.body import body_chunks
from service.routes.common import EngineOf, off_loop
from service.routes.heads import describe_head
from service.schemas.heads import HeadDescription
from service.schemas.openapi import STATE_STATUSES, errors, head_file_body
from service.schemas.parameters import HeadName

router = APIRouter(prefix="/v1/heads/{name}/import", tags=["versions"])


@router.post(
    "",
    status_code=201,
    response_model=HeadDescription,
    responses=errors(*STATE_STATUSES),
    openapi_extra=head_file_body(),
)
async def import_head(request: Request, engine: EngineOf, name: HeadName) -> Response:
    """Make a head of a file that `export?format=archive` gave: its version, published, and all its examples.

    The name must be free, and the extractor that the head was made with must be loaded. The head answers as
    it did where it came from, and can be taught and trained further.
    """
    await off_loop(engine.archives.require_free, name)
    file = await off_loop(engine.archives.place)
    try:
        await _receive(request, engine, file)
        await off_loop(engine.archives.take, name, file)
    finally:
        await off_loop(file.close)
    return answer(await off_loop(describe_head, engine, name), 201)


async def _receive(request: Request, engine: Engine, file: IO[bytes]) -> None:
    waiting = bytearray()
    async with aclosing(body_chunks(request, engine.settings.max_head_archive_bytes)) as chunks:
        async for chunk in chunks:
            waiting += chunk
            if len(waiting) >= PIECE_BYTES:
                await off_loop(_write, file, waiting)
                waiting = bytearray()
    await off_loop(_write, file, waiting)


def _write(file: IO[bytes], data: bytes | bytearray) -> None:
    with unavailable_if_full():
        file.write(data)
        file.flush()
