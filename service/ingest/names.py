"""What a label and an id may be. Knows no request and no store."""

import re
import unicodedata

from service.errors import ApiError
from training.heads import NEGATIVE_LABEL

MAX_LABEL_CHARS = 256
MAX_ID_CHARS = 512
RESERVED_PREFIX = "__"
# The most code points that normalisation form C joins into one (Greek with three marks, U+1F82).
NFC_MOST_JOINED = 4

# Control characters (Unicode Cc), line and paragraph separators, and surrogates: they break logs,
# headers, metrics and PostgreSQL text, and no class or file is named with them on purpose.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def validate_label(text: str, param: str | None = None) -> str:
    """The label as it is kept: verbatim, in Unicode normalisation form C.

    Form C makes the folder `é` of a Mac (two code points) and the `é` typed in JSON (one) the same class.
    `__none__`, the label of negatives, is the one reserved label that may be given.

    Parameters
    ----------
    text : the label as the client wrote it.
    param : where it was found, for the error.

    Raises
    ------
    ApiError
        422 `label_too_long` above 256 characters; 422 `invalid_label` if it is blank, holds a control
        character or a surrogate, or starts with the reserved `__` and is not `__none__`.
    """
    if len(text) > MAX_LABEL_CHARS * NFC_MOST_JOINED:
        raise _too_long(len(text), param)
    if _FORBIDDEN.search(text):
        raise _invalid("a label cannot hold control characters or lone surrogates", param)
    label = unicodedata.normalize("NFC", text)
    if len(label) > MAX_LABEL_CHARS:
        raise _too_long(len(label), param)
    if not label.strip():
        raise _invalid("a label cannot be empty or blank", param)
    if label.startswith(RESERVED_PREFIX) and label != NEGATIVE_LABEL:
        reserved = (
            f"labels that start with {RESERVED_PREFIX} are reserved, save {NEGATIVE_LABEL} for negatives"
        )
        raise _invalid(f"{reserved}; got {label!r}", param)
    return label


def validate_id(text: str) -> str:
    """The caller's id of an input, verbatim, so that the answer can be matched to what was sent.

    Raises
    ------
    ApiError
        422 `invalid_id`: empty, above 512 characters, or with control characters or surrogates.
    """
    if not text:
        raise ApiError(422, "invalid_id", "an id cannot be empty: leave it out instead", param="id")
    if len(text) > MAX_ID_CHARS:
        message = f"an id or file name can have {MAX_ID_CHARS} characters, got {len(text)}"
        raise ApiError(422, "invalid_id", message, param="id")
    if _FORBIDDEN.search(text):
        message = "an id or file name cannot hold control characters or lone surrogates"
        raise ApiError(422, "invalid_id", message, param="id")
    return text


def _invalid(message: str, param: str | None) -> ApiError:
    return ApiError(422, "invalid_label", message, param=param)


def _too_long(length: int, param: str | None) -> ApiError:
    message = f"a label can have {MAX_LABEL_CHARS} characters, got {length}"
    return ApiError(422, "label_too_long", message, param=param)
