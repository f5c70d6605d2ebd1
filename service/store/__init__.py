"""What Headstart remembers: heads, examples, versions, embeddings. Knows no HTTP and no training."""

from service.store.changes import Change, Committed, NewExample, NewVersion, Vector
from service.store.errors import (
    DatabaseUrlError,
    DuplicateExampleError,
    EmbeddingNotFoundError,
    ExampleNotFoundError,
    HeadNotFoundError,
    InvalidTextError,
    RevisionConflictError,
    SchemaError,
    StoreCorruptedError,
    StoreError,
    StoreUnavailableError,
    VersionNotFoundError,
)
from service.store.records import (
    ExampleRow,
    HeadRow,
    HeadSummary,
    Page,
    Published,
    SupportSet,
    VersionRow,
    VersionSummary,
)
from service.store.store import Store

__all__ = [
    "Change",
    "Committed",
    "DatabaseUrlError",
    "DuplicateExampleError",
    "EmbeddingNotFoundError",
    "ExampleNotFoundError",
    "ExampleRow",
    "HeadNotFoundError",
    "HeadRow",
    "HeadSummary",
    "InvalidTextError",
    "NewExample",
    "NewVersion",
    "Page",
    "Published",
    "RevisionConflictError",
    "SchemaError",
    "Store",
    "StoreCorruptedError",
    "StoreError",
    "StoreUnavailableError",
    "SupportSet",
    "Vector",
    "VersionNotFoundError",
    "VersionRow",
    "VersionSummary",
]
