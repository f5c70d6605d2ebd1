"""What API processes and the process of a device say to each other: fixed headers, then raw arrays.

A frame is a header of 32 bytes and a body whose length the header tells. Nothing in it is executed or
unpickled, and no length is believed before it is checked against its bound. Knows sockets; knows no device.

    magic 4s | kind B | error B | 2 unused | graph I | count I | deadline_ms I | length Q | 4 unused
"""

import socket
import struct
from dataclasses import dataclass
from enum import IntEnum

MAGIC = b"HSX1"
_HEADER = struct.Struct("<4sBBxxIIIQ4x")
HEADER_BYTES = _HEADER.size
MAX_TEXT_BYTES = 64 * 1024
# Of one frame; who has more sends several.
MAX_IMAGES = 16
MAX_IMAGE_BYTES = 16 * 1024 * 1024


class Kind(IntEnum):
    """What a frame is. The first three are asked, the others are answers."""

    OPEN = 1  # body: a graph as JSON. Answer: OPENED
    RUN = 2  # body: `count` images, uint8, of `graph`. Answer: ROWS
    STATE = 3  # no body. Answer: TOLD
    OPENED = 4  # `graph` is its number on this connection; body: what the session is, as JSON
    ROWS = 5  # body: `count` rows, float32
    TOLD = 6  # body: what the process is, as JSON
    FAILED = 7  # `error` says what kind; body: a sentence


class Failure(IntEnum):
    """Why a frame could not be answered."""

    DEVICE = 1
    LATE = 2  # its deadline passed while it waited


class FrameError(Exception):
    """What came is no frame, or one that is not allowed. The connection cannot be used any more."""


class ClosedError(Exception):
    """The other side has closed the connection between two frames."""


@dataclass(frozen=True)
class Header:
    """The header of a frame.

    Attributes
    ----------
    graph : number of a graph on this connection.
    count : images or rows.
    deadline_ms : how long the answer is wanted for, in milliseconds; 0: as long as it takes.
    length : bytes of the body.
    """

    kind: Kind
    graph: int = 0
    count: int = 0
    deadline_ms: int = 0
    length: int = 0
    error: int = 0

    def pack(self) -> bytes:
        return _HEADER.pack(
            MAGIC, self.kind, self.error, self.graph, self.count, self.deadline_ms, self.length
        )

    @classmethod
    def unpack(cls, data: bytes) -> "Header":
        """Read a header of `HEADER_BYTES` bytes.

        Raises
        ------
        FrameError
            It is none.
        """
        magic, kind, error, graph, count, deadline_ms, length = _HEADER.unpack(data)
        if magic != MAGIC:
            raise FrameError(f"expected a frame that begins with {MAGIC!r}, found {magic!r}")
        try:
            return cls(Kind(kind), graph, count, deadline_ms, length, error)
        except ValueError:
            raise FrameError(f"a frame of the unknown kind {kind}") from None


def read_header(connection: socket.socket) -> Header:
    """Wait for the next frame.

    Raises
    ------
    ClosedError
        There is none: the other side is done.
    FrameError, OSError
    """
    data = bytearray(HEADER_BYTES)
    first = connection.recv_into(data)
    if not first:
        raise ClosedError
    read_into(connection, memoryview(data)[first:])
    return Header.unpack(bytes(data))


def read_text(connection: socket.socket, header: Header) -> bytes:
    """The body of a frame that is a short text.

    Raises
    ------
    FrameError
        It is longer than any such text, or ends early.
    OSError
    """
    if header.length > MAX_TEXT_BYTES:
        raise FrameError(f"expected at most {MAX_TEXT_BYTES} bytes of text, found {header.length}")
    data = bytearray(header.length)
    read_into(connection, memoryview(data))
    return bytes(data)


def read_into(connection: socket.socket, view: memoryview) -> None:
    """Fill a buffer.

    Raises
    ------
    FrameError
        The connection ends before it is full.
    OSError
    """
    while view.nbytes:
        count = connection.recv_into(view)
        if not count:
            raise FrameError(f"a frame ended {view.nbytes} bytes early")
        view = view[count:]


def write(connection: socket.socket, header: Header, body: bytes | memoryview = b"") -> None:
    """Send a frame; `header.length` must be that of the body.

    Raises
    ------
    OSError
    """
    connection.sendall(header.pack())
    if header.length:
        connection.sendall(body)


def write_text(connection: socket.socket, header: Header, text: bytes) -> None:
    """Send a frame with a short text; see `write`."""
    text = text[:MAX_TEXT_BYTES]
    write(
        connection,
        Header(header.kind, header.graph, header.count, length=len(text), error=header.error),
        text,
    )
