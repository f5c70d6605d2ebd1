"""Head files from elsewhere into versions. Nothing in them is trusted; nothing is kept of a bad one.

Knows no HTTP beyond the documented errors.
"""

from dataclasses import replace

from service import metrics
from service.embedding.embedder import Embedder
from service.embedding.embedders import Embedders
from service.errors import ApiError
from service.ingest import validate_label
from service.learning.layers import on_rows
from service.learning.learner import MAX_ATTEMPTS
from service.store import (
    MULTI_LABEL,
    SINGLE_LABEL,
    Change,
    HeadRow,
    NewVersion,
    RevisionConflictError,
    Store,
    Task,
    VersionRow,
)
from training.errors import HeadFileError
from training.heads import NEGATIVE_LABEL, Head, load_head, save_head
from training.heads.inspection import inspect_head

# Of the JSON in a head file, which takes a multiple of it in memory; 10,000 classes need 2 MiB.
MAX_METADATA_BYTES = 16 * 1024 * 1024
# Lists and objects in it, each of which takes thirty times the bytes that it has in the file.
MAX_METADATA_PARTS = 500_000
LENGTH_BYTES = 8
MAX_MESSAGE_CHARS = 400
ORIGIN = {"imported": True}  # options of an imported version


def is_imported(version: VersionRow) -> bool:
    """Whether a version came as a head file, rather than from the examples of its head."""
    return bool(version.options.get("imported"))


class Importer:
    """Turns head files into versions.

    Parameters
    ----------
    keep_inputs : whether a head that is made keeps the bytes of the examples that it gets later.
    """

    def __init__(self, store: Store, embedders: Embedders, *, keep_inputs: bool) -> None:
        self._store = store
        self._keep_inputs = keep_inputs
        self._embedders = embedders

    def add_version(self, name: str, data: bytes, *, publish: bool) -> int:
        """Make a head file the next version of a head, which is made if it is not there; its number.

        Raises
        ------
        ApiError
            422: not a head file, or one that cannot be used. 409: the head, or the file, belongs to another
            extractor, the head is of another task, or others changed it at every attempt.
        """
        head = read_head_file(data)
        embedder = self._embedders.with_digest(head.extractor_digest)
        try:
            head = on_rows(head, embedder.extractor)
        except ValueError as error:
            raise _refused(str(error)) from error
        for _ in range(MAX_ATTEMPTS):
            try:
                return self._commit(name, head, embedder, publish=publish)
            except RevisionConflictError:
                continue
        raise ApiError(409, "conflict", "others changed this head at every attempt; try again")

    def _commit(self, name: str, head: Head, embedder: Embedder, *, publish: bool) -> int:
        current = self._store.heads.find(name)
        task: Task = MULTI_LABEL if head.task == MULTI_LABEL else SINGLE_LABEL
        if current:
            _require_same_kind(current, head)
        kept = replace(head, parent_version=current.published_version if current else None)
        change = Change(
            head=name,
            extractor_name=embedder.extractor.name,
            extractor_digest=embedder.extractor.digest,
            head_id=current.id if current else None,
            expected_revision=current.revision if current else None,
            task=None if current else task,
            registered=embedder.registration,
            keep_inputs=None if current else self._keep_inputs,
            version=NewVersion(
                # Written anew: the file has nothing in it that was not read.
                file=save_head(kept),
                classes=kept.classes,
                options=ORIGIN,
                report=kept.report.as_dict(),
                warnings=kept.report.warnings,
                parent_version=kept.parent_version,
                publish=publish,
                examples_total=kept.report.examples,
            ),
        )
        with metrics.stage("store"):
            committed = self._store.heads.commit(change)
        metrics.VERSIONS.inc()
        return committed.head.last_version


def _require_same_kind(current: HeadRow, head: Head) -> None:
    if current.extractor_digest != head.extractor_digest:
        message = (
            f"head {current.name!r} belongs to extractor {current.extractor_digest[:12]}, the file to"
            f" {head.extractor_digest[:12]}; import it under another name"
        )
        raise ApiError(409, "extractor_mismatch", message)
    if current.task != head.task:
        message = (
            f"head {current.name!r} is {current.task}, the file {head.task}; import it under another name"
        )
        raise ApiError(409, "task_mismatch", message)


def read_head_file(data: bytes) -> Head:
    """A head from a file of unknown origin.

    Raises
    ------
    ApiError
        422 `invalid_head_file`, or what is wrong with a label.
    """
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    if length > MAX_METADATA_BYTES:
        raise _refused(f"expected a safetensors header of at most {MAX_METADATA_BYTES} bytes")
    end = LENGTH_BYTES + length
    if data.count(b"[", LENGTH_BYTES, end) + data.count(b"{", LENGTH_BYTES, end) > MAX_METADATA_PARTS:
        raise _refused(f"expected at most {MAX_METADATA_PARTS} lists and objects in the header")
    try:
        head = load_head(data)
        inspect_head(head)
    except HeadFileError as error:
        raise _refused(str(error)) from error
    for label in head.classes:
        if validate_label(label, "classes") != label or label == NEGATIVE_LABEL:
            raise _refused(f"classes: expected names of classes in Unicode form NFC, got {label!r}")
    return head


def _refused(message: str) -> ApiError:
    return ApiError(422, "invalid_head_file", message[:MAX_MESSAGE_CHARS])
