"""An input written as a string: which kind it is, and its bytes.

Knows data URIs and base64. Does not fetch: a URL is only recognised here.
"""

import binascii
import re

from service.errors import ApiError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
# Decoded piece by piece: the pieces of one substitution are Python objects, many times its size.
UNQUOTE_CHUNK_BYTES = 1 << 16
ESCAPE_BYTES = 3
BASE64_QUANTUM = 4


def is_url(text: str) -> bool:
    """Whether a string is a URL with an authority (`scheme://`), whatever its scheme."""
    return _SCHEME.match(text) is not None


def decode_text(text: str) -> bytes:
    """The bytes of a data URI (RFC 2397) or of base64 (RFC 4648, either alphabet, padded or not).

    Line breaks are allowed, since `base64` writes them; any other foreign character is an error.

    Raises
    ------
    ApiError
        422 `invalid_input`.
    """
    if text[:5].lower() == "data:":
        return _decode_data_uri(text)
    try:
        return _decode_base64(text.encode("ascii"))
    except (UnicodeEncodeError, binascii.Error):
        raise _invalid("expected a data URI, base64 or an http(s) URL") from None


def _decode_data_uri(text: str) -> bytes:
    header, comma, payload = text.partition(",")
    if not comma:
        raise _invalid("a data URI has a comma between its header and its data")
    try:
        data = _unquote(payload.encode())
    except UnicodeEncodeError:
        raise _invalid("the data URI holds lone surrogates") from None
    if not header.lower().rstrip().endswith(";base64"):
        return data
    try:
        return _decode_base64(data)
    except binascii.Error as error:
        raise _invalid(f"the data URI is not valid base64: {error}") from None


def _decode_base64(text: bytes) -> bytes:
    if b"-" in text or b"_" in text:
        text = text.translate(_URL_SAFE)
    if b"\n" in text or b"\r" in text:
        text = text.translate(None, b"\r\n")
    if not text.endswith(b"="):
        text += b"=" * (-len(text) % BASE64_QUANTUM)
    elif len(text) % BASE64_QUANTUM or text.endswith(b"==="):
        raise binascii.Error("wrong padding")
    return binascii.a2b_base64(text, strict_mode=True)


def _unquote(text: bytes) -> bytes:
    """Percent-decode; a `%` that starts no escape stands for itself, as in the URL standard."""
    if b"%" not in text:
        return text
    out = bytearray()
    start = 0
    while start < len(text):
        end = min(start + UNQUOTE_CHUNK_BYTES, len(text))
        if end < len(text) and (cut := text.rfind(b"%", end - ESCAPE_BYTES + 1, end)) > start:
            end = cut  # an escape may straddle the border: leave it whole for the next chunk
        out += _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), text[start:end])
        start = end
    return bytes(out)


def _invalid(message: str) -> ApiError:
    return ApiError(422, "invalid_input", message)
