"""Errors of the REST surface: one exception, one body shape.

Knows which HTTP status each documented error has. Does not know who raises it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.store.errors import (
    AnswerLostError,
    ExampleNotFoundError,
    ExtractorExistsError,
    ExtractorInUseError,
    ExtractorNotFoundError,
    HeadNotFoundError,
    IdempotencyKeyReusedError,
    InputNotKeptError,
    InvalidTextError,
    JobExistsError,
    JobNotFoundError,
    QuotaExceededError,
    RequestInProgressError,
    RequestTakenOverError,
    RevisionConflictError,
    SchemaError,
    StoreError,
    StoreUnavailableError,
    TenantNotFoundError,
    VersionNotFoundError,
)
from training.errors import (
    DeviceError,
    EmptyInputError,
    ExportError,
    ExtractorMismatchError,
    HeadFileError,
    HeadstartError,
    ImageTooLargeError,
    InputError,
    SupportSetError,
    TruncatedImageError,
    UnsupportedImageError,
)

STATUS_OF_ERROR: Mapping[type[HeadstartError], int] = {
    EmptyInputError: 422,
    UnsupportedImageError: 415,
    TruncatedImageError: 422,
    ImageTooLargeError: 413,
    InputError: 422,
    SupportSetError: 422,
    ExtractorMismatchError: 409,
    HeadFileError: 422,
    ExportError: 409,
    DeviceError: 503,
    HeadNotFoundError: 404,
    VersionNotFoundError: 404,
    ExampleNotFoundError: 404,
    ExtractorNotFoundError: 404,
    ExtractorExistsError: 409,
    ExtractorInUseError: 409,
    InputNotKeptError: 404,
    JobNotFoundError: 404,
    JobExistsError: 409,
    RevisionConflictError: 409,
    RequestInProgressError: 409,
    RequestTakenOverError: 409,
    AnswerLostError: 409,
    IdempotencyKeyReusedError: 422,
    InvalidTextError: 422,
    QuotaExceededError: 403,
    TenantNotFoundError: 403,
    SchemaError: 503,
    StoreUnavailableError: 503,
}
RETRY_AFTER_S = 1


@dataclass(frozen=True)
class ItemError:
    """What is wrong with one input of a batch."""

    index: int
    status: int
    code: str
    message: str
    id: str | None = None
    label: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "id": self.id,
            "label": self.label,
            "code": self.code,
            "message": self.message,
        }


class ApiError(Exception):
    """An answer other than 2xx: raised anywhere below a route, rendered once.

    Parameters
    ----------
    status : HTTP status.
    code : stable machine-readable name.
    message : one sentence for a person: what was expected, what was found.
    param : the field, query parameter or header at fault, if one is.
    items : the bad inputs of a batch, each named by its index.
    details : further documented fields of the error, such as the id of an existing example.
    headers : extra response headers, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        items: Sequence[ItemError] = (),
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.items = tuple(items)
        self.details = dict(details or {})
        self.headers = dict(headers or {})

    def body(self, request_id: str) -> dict[str, Any]:
        error: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "request_id": request_id,
            **self.details,
        }
        if self.items:
            error["items"] = [item.as_dict() for item in self.items]
        return {"error": error}


def status_of(error: HeadstartError) -> int:
    """The HTTP status of a domain error; 500 for one that no client can cause."""
    for kind in type(error).__mro__:
        if kind in STATUS_OF_ERROR:
            return STATUS_OF_ERROR[kind]
    return 500


def api_error(error: HeadstartError) -> ApiError:
    """A domain error as the answer that documents it."""
    status = status_of(error)
    is_passing = status == 503 or isinstance(error, RequestInProgressError)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if is_passing else {}
    message = error.public if isinstance(error, StoreError) else str(error)
    details = {"done": error.done} if isinstance(error, AnswerLostError) else {}
    return ApiError(status, error.code, message, details=details, headers=headers)


def batch_error(items: Sequence[ItemError], total: int) -> ApiError:
    """One error for a batch with bad items: the status and code of the first, all of them listed."""
    first = items[0]
    message = (
        f"{len(items)} of {total} inputs cannot be used; the first is index {first.index}: {first.message}"
    )
    if total == 1:
        message = first.message
    return ApiError(first.status, first.code, message, param=f"inputs[{first.index}]", items=items)
