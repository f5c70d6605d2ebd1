"""Frames: what was packed is read, and nothing else is."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.devices.frames import (
    HEADER_BYTES,
    MAX_TEXT_BYTES,
    ClosedError,
    Failure,
    FrameError,
    Header,
    Kind,
    read_header,
    read_into,
    read_text,
    write,
    write_text,
)


@given(
    st.sampled_from(Kind),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.sampled_from([0, *Failure]),
)
def test_a_header_is_read_as_it_was_packed(
    kind: Kind, graph: int, count: int, deadline_ms: int, length: int, error: int
) -> None:
    header = Header(kind, graph, count, deadline_ms, length, error)
    assert len(header.pack()) == HEADER_BYTES
    assert Header.unpack(header.pack()) == header


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_any_other_bytes_are_no_header(data: bytes) -> None:
    with pytest.raises(FrameError):
        Header.unpack(data if not data.startswith(b"HSX1") else b"....".ljust(HEADER_BYTES))


def test_an_unknown_kind_is_no_frame() -> None:
    data = bytearray(Header(Kind.RUN).pack())
    data[4] = 99
    with pytest.raises(FrameError, match="unknown kind 99"):
        Header.unpack(bytes(data))


def test_a_text_that_is_too_long_is_not_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(FrameError, match="at most"):
        read_text(theirs, Header(Kind.OPEN, length=MAX_TEXT_BYTES + 1))


def test_the_end_between_two_frames_is_told_from_the_end_inside_of_one() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        write(ours, Header(Kind.RUN, length=4), b"abcd")
        write_text(ours, Header(Kind.FAILED, error=Failure.LATE), b"too late")
        ours.sendall(b"HSX1")
        ours.close()
        body = bytearray(read_header(theirs).length)
        read_into(theirs, memoryview(body))
        assert bytes(body) == b"abcd"
        header = read_header(theirs)
        assert (header.error, read_text(theirs, header)) == (Failure.LATE, b"too late")
        with pytest.raises(FrameError, match="28 bytes early"):
            read_header(theirs)
        with pytest.raises(ClosedError):
            read_header(theirs)
