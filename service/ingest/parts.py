"""multipart/form-data (RFC 7578) into parts, in memory: the body is bounded already.

Knows names, file names and sizes of parts. Does not know what a field name means.
"""

from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import ApiError
from service.ingest.batch import too_many_inputs
from service.ingest.body import CLOSE

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# Room for a label of 10,000 characters of four bytes, so that it is refused by name and not as malformed.
MAX_HEADER_BYTES = 1 << 17
MAX_HEADERS = 32
PLAIN_TRANSFER_ENCODINGS = frozenset({b"", b"7bit", b"8bit", b"binary"})
# What the HTML standard's form encoding escapes in names and file names; it escapes nothing else.
NAME_ESCAPES = (("%22", '"'), ("%0D", "\r"), ("%0A", "\n"))


@dataclass(frozen=True)
class Part:
    """One part. `is_text`: a plain form field, as against a file or other content."""

    name: str
    filename: str | None
    is_text: bool
    data: bytes = field(repr=False)


async def read_parts(
    chunks: AsyncIterable[bytes], boundary: bytes | None, max_parts: int
) -> tuple[Part, ...]:
    """Parse a multipart body as it arrives.

    Raises
    ------
    ApiError
        400 `malformed_multipart`; 413 `too_many_inputs` above `max_parts`, as soon as the part begins;
        415 `unsupported_encoding` for a part in base64 or quoted-printable.
    """
    if not boundary:
        raise malformed("the Content-Type has no boundary")
    form = _Form(max_parts)
    try:
        parser = MultipartParser(
            boundary, form.callbacks(), max_header_count=MAX_HEADERS, max_header_size=MAX_HEADER_BYTES
        )
        async for chunk in chunks:
            parser.write(chunk)
    except FormParserError as error:
        raise malformed(str(error)) from None
    if not form.ended:
        raise malformed("the body ends before its closing boundary")
    return tuple(form.parts)


def malformed(message: str) -> ApiError:
    return ApiError(400, "malformed_multipart", f"malformed multipart body: {message}", headers=CLOSE)


class _Form:
    """What the parser reports, put together."""

    def __init__(self, max_parts: int) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._max_parts = max_parts
        self._headers: dict[bytes, bytes] = {}
        self._header_name: list[bytes] = []
        self._header_value: list[bytes] = []
        self._data: list[bytes] = []

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header_name.append(data[start:end]),
            "on_header_value": lambda data, start, end: self._header_value.append(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._check_headers,
            "on_part_data": lambda data, start, end: self._data.append(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        if len(self.parts) >= self._max_parts:
            raise too_many_inputs(self._max_parts)
        self._headers = {}
        self._data = []

    def _end_header(self) -> None:
        self._headers[b"".join(self._header_name).lower()] = b"".join(self._header_value).strip()
        self._header_name.clear()
        self._header_value.clear()

    def _check_headers(self) -> None:
        encoding = self._headers.get(b"content-transfer-encoding", b"").lower()
        if encoding not in PLAIN_TRANSFER_ENCODINGS:
            message = "a part with a Content-Transfer-Encoding is not read; send its bytes as they are"
            raise ApiError(415, "unsupported_encoding", message, headers=CLOSE)

    def _end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise malformed(f"part {len(self.parts)} has no name in its Content-Disposition")
        filename = options.get(b"filename")
        kind = self._headers.get(b"content-type", b"text/plain").lower()
        self.parts.append(
            Part(
                name=_name(options[b"name"]),
                filename=None if filename is None else _name(filename),
                is_text=filename is None and kind.startswith(b"text/"),
                data=b"".join(self._data),
            )
        )
        self._data = []

    def _finish(self) -> None:
        self.ended = True


def _name(raw: bytes) -> str:
    # An invalid byte becomes a lone surrogate, which no label or id may hold: refused there, by name.
    text = raw.decode("utf-8", "surrogateescape")
    if "%" in text:
        for escape, char in NAME_ESCAPES:
            text = text.replace(escape, char)
    return text
