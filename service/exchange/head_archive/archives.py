"""Heads with their examples out of this server and into it. Knows no HTTP beyond the documented errors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from service import metrics
from service.config import Settings
from service.embedding.embedder import Embedder
from service.embedding.embedders import Embedders
from service.errors import ApiError
from service.exchange.head_archive import members
from service.exchange.head_archive.reading import Checked, Limits, check_archive
from service.exchange.head_archive.writing import HeadArchive, temporary, unavailable_if_full, write_archive
from service.exchange.importer import ORIGIN
from service.learning.layers import on_rows
from service.learning.learner import MAX_ATTEMPTS, conflict
from service.store import (
    Change,
    HeadRow,
    InputNotKeptError,
    NewInput,
    NewVersion,
    RevisionConflictError,
    Store,
    StoreUnavailableError,
    unpublished,
)
from training.errors import HeadstartError
from training.heads import save_head


class HeadArchives:
    """Writes heads as archives and makes heads of them.

    Parameters
    ----------
    settings : the folder in which archives lie while they are written or read, and the limits.
    """

    def __init__(self, store: Store, embedders: Embedders, settings: Settings) -> None:
        self._store = store
        self._embedders = embedders
        self._folder: Path = settings.home.absolute()
        self._limits = Limits(settings.max_body_bytes, settings.max_input_bytes)

    def write(self, name: str, version: int | None) -> HeadArchive:
        """A version of a head with the examples that the head has now, of one moment, as a file.

        The same head gives the same bytes.

        Raises
        ------
        HeadNotFoundError, VersionNotFoundError
        ApiError
            409: the version is of another extractor than the examples, or others changed the head at every
            attempt. 413: more examples than an archive can have.
        StoreUnavailableError
        """
        for _ in range(MAX_ATTEMPTS):
            head = self._store.heads.get(name)
            number = head.published_version if version is None else version
            if number is None:
                raise unpublished(name)
            row = self._store.versions.get(name, number)
            if row.extractor_digest != head.extractor_digest:
                message = f"version {number} is of extractor {row.extractor_name!r}, the examples are not"
                raise ApiError(409, "extractor_mismatch", message)
            try:
                with unavailable_if_full():
                    archive = write_archive(self._store, head, row, self._folder)
            except (RevisionConflictError, InputNotKeptError):
                continue
            now = self._store.heads.find(name)
            if now is not None and (now.id, now.revision) == (head.id, head.revision):
                return archive
            archive.file.close()
        raise conflict()

    def place(self) -> IO[bytes]:
        """A file for an archive that comes in, which is gone once it is closed.

        Raises
        ------
        StoreUnavailableError
        """
        with unavailable_if_full():
            return temporary(self._folder)

    def require_free(self, name: str) -> None:
        """Refuse a name that a head has.

        Raises
        ------
        ApiError
            409 `head_exists`.
        """
        if self._store.heads.find(name) is not None:
            raise _exists(name)

    def take(self, name: str, file: IO[bytes]) -> HeadRow:
        """Make a head of an archive, under a name that no head has; on any error nothing is changed.

        Raises
        ------
        ApiError
            409 `head_exists`, `extractor_mismatch`; 413, 422: see `check_archive`.
        QuotaExceededError, StoreUnavailableError
        """
        self.require_free(name)
        checked = check_archive(file, self._limits)
        embedder = self._embedders.with_digest(checked.about.digest)
        version = _version(checked, embedder)
        about = checked.about
        with self._inputs(file, checked) as written:
            change = Change(
                head=name,
                extractor_name=embedder.extractor.name,
                extractor_digest=about.digest,
                task=about.task,
                keep_inputs=about.keep_inputs,
                add=checked.examples,
                embeddings=checked.rows,
                inputs=written,
                version=version,
                registered=embedder.registration,
            )
            try:
                with metrics.stage("store"):
                    committed = self._store.heads.commit(change)
            except RevisionConflictError as error:
                raise _exists(name) from error
        metrics.VERSIONS.inc()
        return committed.head

    @contextmanager
    def _inputs(self, file: IO[bytes], checked: Checked) -> Iterator[Mapping[str, NewInput]]:
        """The kept inputs, written for a commit, the block; deleted if it says that it wrote nothing.

        After an unavailable store it is not known whether it did; the next start of a server finds out.
        """
        written: dict[str, NewInput] = {}
        is_given = False
        try:
            for key, member in checked.inputs.items():
                written[key] = self._store.inputs.write(members.content(file, member))
            is_given = True
            yield written
        except (ApiError, HeadstartError) as error:
            if not (is_given and isinstance(error, StoreUnavailableError)):
                self._store.inputs.discard(list(written.values()))
            raise


def _version(checked: Checked, embedder: Embedder) -> NewVersion:
    try:
        head = on_rows(checked.head, embedder.extractor)
    except ValueError as error:
        raise ApiError(422, "invalid_head_archive", str(error)[:400]) from error
    if checked.rows and checked.about.width != embedder.extractor.width:
        message = f"rows of {checked.about.width} numbers, the extractor gives {embedder.extractor.width}"
        raise ApiError(422, "invalid_head_archive", message)
    return NewVersion(
        file=save_head(head),
        classes=head.classes,
        # How it was fitted is how it is fitted again.
        options={**checked.about.fit, **ORIGIN},
        report=head.report.as_dict(),
        warnings=head.report.warnings,
        examples_total=checked.about.trained_on,
    )


def _exists(name: str) -> ApiError:
    message = f"there is a head {name!r} already: import under another name, or delete it first"
    return ApiError(409, "head_exists", message)
