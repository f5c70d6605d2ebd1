"""An HTTP request into a batch, whichever of the three forms it has.

Knows the forms. Decodes no image; knows no store, no extractor and no route.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from service.config import Settings
from service.errors import ApiError
from service.ingest.archive import Allowance, is_zip, unpack
from service.ingest.batch import NO_OPTIONS, Batch, BatchBuilder
from service.ingest.body import body_chunks, read_body
from service.ingest.document import gather_document, parse_json
from service.ingest.parts import Part, read_parts
from service.ingest.remote import PUBLIC_WEB, RemotePolicy, fetch_links

T = TypeVar("T")

# Decoding this much base64 takes about as long as handing it to a thread.
OFFLOAD_BYTES = 256 * 1024


async def read_batch(
    request: Request,
    settings: Settings,
    *,
    labelled: bool,
    label: str | None = None,
    policy: RemotePolicy = PUBLIC_WEB,
) -> Batch:
    """Read the inputs of a request.

    Parameters
    ----------
    request : with its body unread.
    settings : the limits, and whether URLs are fetched.
    labelled : whether every input must have a label. In multipart it is the field name, in an archive the
        folder that holds the file, in JSON `label`; otherwise inputs have none.
    label : the label of a raw body, of archive files without a folder, and of JSON examples without one.
    policy : where URLs may lead.

    Returns
    -------
    Batch
        Inputs that cannot be used by themselves (empty, too large, bad base64, a refused URL, ...) are in
        `rejected`; a body without any item is an empty batch, but an empty raw body is one empty item.

    Raises
    ------
    ApiError
        400 `malformed_json`, `malformed_multipart`, `malformed_request`, `incomplete_body`; 413
        `body_too_large`, `too_many_inputs`, `archive_too_large`; 415 `unsupported_encoding`; 422
        `invalid_archive`, `invalid_parameter`, `invalid_label`, `label_too_long`, `label_required`,
        `label_not_allowed`.
    """
    builder = BatchBuilder(settings)
    options: Mapping[str, Any] = NO_OPTIONS
    label = label if labelled else None
    media_type, parameters = parse_options_header(request.headers.get("content-type"))
    if media_type == b"multipart/form-data":
        await _read_form(builder, request, parameters.get(b"boundary"), labelled, label)
    elif _is_json(media_type):
        options = await _read_document(builder, request, labelled, label)
    else:
        body = await read_body(request, settings.max_body_bytes)
        await _offload(is_zip(body), partial(_gather_raw, builder, body, labelled, label))
    if builder.links:
        await fetch_links(builder, policy)
    return builder.build(options)


async def _read_form(
    builder: BatchBuilder, request: Request, boundary: bytes | None, labelled: bool, label: str | None
) -> None:
    if label is not None:
        message = "in multipart/form-data the field name is the label: leave out the `label` parameter"
        raise ApiError(422, "label_not_allowed", message, param="label")
    settings = builder.settings
    async with aclosing(body_chunks(request, settings.max_body_bytes)) as chunks:
        parts = await read_parts(chunks, boundary, settings.max_inputs)
    text_bytes = sum(len(part.data) for part in parts if part.is_text)
    slow = text_bytes > OFFLOAD_BYTES or any(is_zip(part.data) for part in parts)
    await _offload(slow, partial(_gather_parts, builder, parts, labelled))


async def _read_document(
    builder: BatchBuilder, request: Request, labelled: bool, label: str | None
) -> dict[str, Any]:
    body = await read_body(request, builder.settings.max_body_bytes)

    def gather() -> dict[str, Any]:
        document = parse_json(body, builder.settings.max_inputs)
        return gather_document(builder, document, labelled=labelled, label=label)

    return await _offload(len(body) > OFFLOAD_BYTES, gather)


async def _offload(slow: bool, work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(work) if slow else work()


def _gather_raw(builder: BatchBuilder, body: bytes, labelled: bool, label: str | None) -> None:
    if is_zip(body):
        _gather_archive(builder, body, labelled, label, "label")
    elif labelled and label is None:
        raise _label_required("a raw body needs its label in the query: ?label=cat")
    else:
        builder.add(body, label, None, "label")


def _gather_parts(builder: BatchBuilder, parts: Iterable[Part], labelled: bool) -> None:
    for part in parts:
        label = part.name if labelled else None
        if part.is_text:
            _gather_field(builder, part, label)
        elif is_zip(part.data):
            _gather_archive(builder, part.data, labelled, label, None)
        else:
            builder.add(part.data, label, part.filename or None)


def _gather_field(builder: BatchBuilder, part: Part, label: str | None) -> None:
    try:
        text = part.data.decode()
    except UnicodeDecodeError:
        message = "the field is not text; send content with a file name: -F 'label=@file'"
        builder.add_error(ApiError(422, "invalid_input", message), label, None)
    else:
        builder.add_text(text, label, None)


def _gather_archive(
    builder: BatchBuilder, data: bytes, labelled: bool, label: str | None, param: str | None
) -> None:
    settings = builder.settings
    left = settings.max_body_bytes - builder.unpacked_bytes
    for entry in unpack(data, Allowance(builder.room, settings.max_input_bytes, left)):
        if labelled and entry.folder is None and label is None:
            raise _label_required(
                f"{entry.path!r} is in no folder of the archive: give ?label= for such files"
            )
        own_label = (entry.folder or label) if labelled else None
        own_param = None if entry.folder else param
        builder.unpacked_bytes += entry.unpacked_bytes
        if isinstance(entry.content, ApiError):
            builder.add_error(entry.content, own_label, entry.path, own_param)
        else:
            builder.add(entry.content, own_label, entry.path, own_param)


def _label_required(message: str) -> ApiError:
    return ApiError(422, "label_required", message, param="label")


def _is_json(media_type: bytes) -> bool:
    return media_type == b"application/json" or (
        media_type.startswith(b"application/") and media_type.endswith(b"+json")
    )
