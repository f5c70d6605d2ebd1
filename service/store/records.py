"""What the store gives back: frozen rows, detached from the database. Times are aware and in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

Item = TypeVar("Item")
Cursor = TypeVar("Cursor")

# Whether an input of a head has one label or any number of them.
Task = Literal["single_label", "multi_label"]
SINGLE_LABEL: Task = "single_label"
MULTI_LABEL: Task = "multi_label"

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
QUEUED: JobState = "queued"
RUNNING: JobState = "running"
SUCCEEDED: JobState = "succeeded"
FAILED: JobState = "failed"
CANCELLED: JobState = "cancelled"
UNFINISHED: tuple[JobState, ...] = (QUEUED, RUNNING)

EventKind = Literal["progress", "log", "state"]


@dataclass(frozen=True)
class Page(Generic[Item, Cursor]):
    """A part of a list; `next_after` is the `after` of the next page, None if this is the last."""

    items: tuple[Item, ...]
    next_after: Cursor | None


@dataclass(frozen=True)
class HeadRow:
    """A head as it is now.

    `revision` counts the commits: it changes when examples change, move to another extractor or a version is
    added, not when another version of the same extractor is published. `id` is never given to another head,
    `name` may be. A name is unique within its `tenant`.
    """

    id: int
    tenant: str
    name: str
    extractor_name: str
    extractor_digest: str
    task: Task
    revision: int
    published_version: int | None
    last_version: int
    created_at: datetime
    updated_at: datetime
    keep_inputs: bool


@dataclass(frozen=True)
class Published:
    """What a prediction needs to know: the version to use, and the extractor that version was trained on."""

    head_id: int
    number: int
    extractor_name: str
    extractor_digest: str
    revision: int


@dataclass(frozen=True)
class ServedHead:
    """A head by name, and the version that predicts now; None if none is published."""

    name: str
    head_id: int
    number: int | None


@dataclass(frozen=True)
class VersionSummary:
    """A version without its report. `revision` is the head's at which the support set was as trained on."""

    head_id: int
    number: int
    created_at: datetime
    extractor_name: str
    extractor_digest: str
    revision: int
    parent_version: int | None
    examples_total: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class VersionRow(VersionSummary):
    options: Mapping[str, Any]
    report: Mapping[str, Any]
    warnings: tuple[Any, ...]
    file_sha256: str
    file_bytes: int


@dataclass(frozen=True)
class HeadSummary:
    """A head with its examples counted by label (sorted) and its published version, if one is."""

    head: HeadRow
    label_counts: Mapping[str, int]
    published: VersionSummary | None


@dataclass(frozen=True)
class ExampleRow:
    """One label of one input.

    `seq` orders the examples and is the cursor of their list; `sha256` is of the input's bytes; `kept` says
    whether the head keeps those.
    """

    seq: int
    id: str
    label: str
    sha256: str
    source_id: str | None
    size_bytes: int
    created_at: datetime
    kept: bool


@dataclass(frozen=True)
class SupportSet:
    """All examples of a head at one revision, oldest first: three columns of equal length."""

    head_id: int
    revision: int
    extractor_name: str
    extractor_digest: str
    task: Task
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class ExtractorRow:
    """A registered extractor.

    `manifest` is the content of its manifest.json. `origin` says where it comes from: `kind` is `added` or
    `finetuned`, and a fine-tuned one also names the `head` on whose inputs it was trained. `blobs` is the
    folder of keys that its files are under. `tenant` is the one that sees it; None for all.
    """

    digest: str
    name: str
    manifest: Mapping[str, Any]
    origin: Mapping[str, Any]
    blobs: str
    created_at: datetime
    tenant: str | None = None


@dataclass(frozen=True)
class JobRow:
    """A long piece of work for a head, as it is now.

    `seq` orders the jobs and is the cursor of their list. `attempts` counts how often a worker began it;
    with `worker` it tells one holder of the job from the next. `fraction` is from 0 to 1.
    """

    seq: int
    id: str
    head_id: int
    head: str
    tenant: str
    kind: str
    state: JobState
    options: Mapping[str, Any]
    fraction: float
    stage: str | None
    epoch: int | None
    epochs: int | None
    attempts: int
    worker: str | None
    lease_expires_at: datetime | None
    cancel_requested: bool
    result: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    last_event: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def is_finished(self) -> bool:
        return self.state not in UNFINISHED


@dataclass(frozen=True)
class JobEvent:
    """Something that happened in a job. `seq` counts from 1 within the job; old ones are dropped."""

    seq: int
    at: datetime
    kind: EventKind
    data: Mapping[str, Any]


@dataclass(frozen=True)
class JobPosition:
    """The number of a job's last event, and whether more may come."""

    last_event: int
    is_finished: bool


@dataclass(frozen=True)
class HeadFigures:
    """All heads of a database as figures.

    count : heads, published or not.
    accuracies : held-out accuracy of each published version that has one, ascending.
    """

    count: int
    accuracies: tuple[float, ...]
