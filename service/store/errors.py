"""What can go wrong in the store. Knows no HTTP status.

    StoreError (a HeadstartError)
    ├── HeadNotFoundError          no head of that name, or none any more
    ├── VersionNotFoundError       no such version of the head, or none is published
    ├── ExampleNotFoundError       no such example in the head
    ├── InputNotKeptError          the bytes of an example were not kept
    ├── EmbeddingNotFoundError     an example was to be stored whose embedding is not there
    ├── JobNotFoundError           no such job, or its head was deleted
    ├── JobExistsError             the head has an unfinished job of the kind already
    ├── JobLostError               a worker no longer holds the job that it works on
    ├── DuplicateExampleError      the head has the same input already, or the same label of it
    ├── RevisionConflictError      the head was changed, created or deleted in the meantime
    ├── ExtractorNotFoundError     no extractor of that name is registered, or none any more
    ├── ExtractorExistsError       another extractor has that name
    ├── ExtractorInUseError        heads or versions refer to the extractor that was to be removed
    ├── TenantNotFoundError        no such tenant
    ├── TenantExistsError          a tenant has that name already
    ├── TenantNameError            a name that no tenant can have
    ├── QuotaExceededError         the tenant would have more than it may have
    ├── KeyNotFoundError           no API key of that id
    ├── IdempotencyKeyReusedError  the key was used for another request
    ├── RequestInProgressError     another attempt at the request is at work
    ├── RequestTakenOverError      another attempt has taken the request over
    ├── AnswerLostError            the request was carried out, and its answer was not kept
    ├── InvalidTextError           a string that no database can hold: U+0000 or a lone surrogate
    ├── BlobNotFoundError          no blob of that key, or none any more
    ├── BlobUrlError               a URL that names no place where blobs can be kept
    ├── DatabaseUrlError           a URL that names no database that can be used
    ├── SchemaError                the tables are missing, older or newer than this code
    ├── HomeNotEmptyError          a backup was to be restored where there is something to lose
    ├── HomeInUseError             a backup was to be restored under servers that run
    └── StoreUnavailableError      locked for too long, disk full, not writable, connection lost
        ├── StoreCorruptedError    the database is damaged
        └── ExtractorUnavailableError  a file of a registered extractor is missing, damaged or not readable

A store that is unavailable may come back: nothing was written, and the same call can be made again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from training.errors import HeadstartError


class StoreError(HeadstartError):
    """Base of every error of the store.

    Parameters
    ----------
    public : what anybody may read.
    detail : what is for the operator only: paths, addresses, words of a driver.
    """

    code = "store_error"

    def __init__(self, public: str, detail: object = None) -> None:
        self.public = public
        super().__init__(public if detail is None else f"{public}: {detail}")


class HeadNotFoundError(StoreError):
    code = "head_not_found"

    def __init__(self, head: str | int) -> None:
        super().__init__(f"there is no head {head!r}")


class VersionNotFoundError(StoreError):
    code = "version_not_found"


def unpublished(head: str) -> VersionNotFoundError:
    return VersionNotFoundError(f"the head {head!r} has no published version: train it first")


class ExampleNotFoundError(StoreError):
    """`ids` are the examples that the head does not have."""

    code = "example_not_found"

    def __init__(self, head: str, ids: Sequence[str]) -> None:
        self.ids = tuple(ids)
        more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        super().__init__(f"the head {head!r} has no example {ids[0]!r}{more}")


class InputNotKeptError(StoreError):
    code = "input_not_kept"

    def __init__(self, sha256: str) -> None:
        super().__init__(
            f"the input {sha256} was not kept: a head keeps inputs if it was created with keep_inputs=true"
        )


class EmbeddingNotFoundError(StoreError):
    """`keys` are the inputs (sha256) whose embedding was neither given nor stored."""

    code = "embedding_not_found"

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = tuple(keys)
        super().__init__(f"{len(keys)} examples have no embedding; the first is of the input {keys[0]}")


class JobNotFoundError(StoreError):
    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id!r}")


class JobExistsError(StoreError):
    """`job_id` is the unfinished job."""

    code = "job_exists"

    def __init__(self, head: str, kind: str, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"the head {head!r} has an unfinished job of kind {kind}, {job_id}: wait for it or cancel it"
        )


class JobLostError(StoreError):
    code = "job_lost"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the job {job_id} is no longer this worker's: taken over, cancelled or deleted")


class DuplicateExampleError(StoreError):
    """`existing` maps the sha256 of each input to the id of the example that has it already.

    The id is None for an input that is twice among the new examples.
    """

    code = "duplicate_example"

    def __init__(self, head: str, existing: Mapping[str, str | None]) -> None:
        self.existing = dict(existing)
        key, example_id = next(iter(self.existing.items()))
        where = f"as example {example_id}" if example_id else "twice in one change"
        super().__init__(
            f"{len(self.existing)} inputs are in the head {head!r} already; the first is {key}, {where}"
        )


class RevisionConflictError(StoreError):
    code = "revision_conflict"


class ExtractorNotFoundError(StoreError):
    code = "extractor_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"no extractor {name!r} is registered")


class ExtractorExistsError(StoreError):
    code = "extractor_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"another extractor has the name {name!r}; export this one under another name")


class ExtractorInUseError(StoreError):
    """`heads` are some of those that refer to the extractor."""

    code = "extractor_in_use"

    def __init__(self, name: str, heads: Sequence[str]) -> None:
        self.heads = tuple(heads)
        super().__init__(
            f"the extractor {name!r} is in use by heads or their versions ({', '.join(heads[:10])}"
            f"{', ...' if len(heads) > 10 else ''}): delete these heads first"
        )


class TenantNotFoundError(StoreError):
    code = "tenant_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no tenant {name!r}: make it with `headstart tenants create`")


class TenantExistsError(StoreError):
    code = "tenant_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a tenant {name!r} already")


class TenantNameError(StoreError):
    code = "invalid_tenant"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r:.80} can be no tenant: expected 1 to 128 letters, digits, dots, underscores and dashes,"
            " a letter or digit first"
        )


class QuotaExceededError(StoreError):
    """`what` is `heads`, `examples` or `bytes`; `used` is how many there would be."""

    code = "quota_exceeded"

    def __init__(self, what: str, used: int, limit: int) -> None:
        self.what = what
        super().__init__(
            f"this would be {used} {what}, and {limit} are allowed: delete some, or ask for more"
        )


class KeyNotFoundError(StoreError):
    code = "key_not_found"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"there is no key {key_id!r}")


class IdempotencyKeyReusedError(StoreError):
    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"the Idempotency-Key {key!r:.80} was used for another request: method, path, query and body must"
            " be the same"
        )


class RequestInProgressError(StoreError):
    code = "request_in_progress"

    def __init__(self, key: str) -> None:
        super().__init__(f"the request with the Idempotency-Key {key!r:.80} is being carried out; try again")


class RequestTakenOverError(StoreError):
    code = "request_taken_over"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"another attempt at the request with the Idempotency-Key {key!r:.80} has taken its place;"
            " this one changed nothing"
        )


class AnswerLostError(StoreError):
    """`done` tells what the request did."""

    code = "answer_lost"

    def __init__(self, key: str, done: Mapping[str, Any] | None) -> None:
        self.done = dict(done or {})
        super().__init__(
            f"the request with the Idempotency-Key {key!r:.80} was carried out, but the server ended before"
            " its answer was kept: `done` tells what it did"
        )


class InvalidTextError(StoreError):
    code = "invalid_text"


class BlobNotFoundError(StoreError):
    """`key` has no blob."""

    code = "blob_not_found"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"there is no blob {key!r}")


class BlobUrlError(StoreError):
    code = "invalid_blob_url"


class DatabaseUrlError(StoreError):
    code = "invalid_database_url"


class SchemaError(StoreError):
    code = "schema_mismatch"


class HomeNotEmptyError(StoreError):
    code = "home_not_empty"

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where} has heads, keys, extractors or an audit log already: choose another, or --replace"
        )


class HomeInUseError(StoreError):
    code = "home_in_use"


class StoreUnavailableError(StoreError):
    code = "store_unavailable"


class StoreCorruptedError(StoreUnavailableError):
    code = "store_corrupted"


class ExtractorUnavailableError(StoreUnavailableError):
    code = "extractor_unavailable"

    def __init__(
        self, name: str, reason: object, advice: str = "add it again with `headstart extractors add`"
    ) -> None:
        super().__init__(f"extractor {name!r} cannot be loaded now: {reason}; if that stays so, {advice}")
