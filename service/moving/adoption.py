"""A ready-made head of another extractor as the next version of a head, which may go there with it.

Knows what is written, all at once or not at all. Does not know where the head comes from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from service import metrics
from service.embedding.embedder import Embedder
from service.errors import ApiError
from service.learning.layers import on_rows
from service.learning.learner import MAX_ATTEMPTS, conflict
from service.moving.reembedding import reembed
from service.store import (
    Change,
    Committed,
    HeadNotFoundError,
    HeadRow,
    NewVersion,
    RevisionConflictError,
    Store,
    Vector,
)
from training.heads import Head, save_head


@dataclass(frozen=True)
class Adopted:
    """What became of a ready-made head: the head as it is now, the new version, whether it is published.

    `obstacle` says why a version that was to be published is not; None if nothing was in the way.
    """

    head: HeadRow
    version: int
    published: bool
    obstacle: str | None


def adopt(
    store: Store,
    embedder: Embedder,
    name: str,
    head: Head,
    *,
    publish: bool,
    head_id: int | None = None,
    options: Mapping[str, Any] | None = None,
    warnings: Sequence[Mapping[str, str]] = (),
    examples_total: int | None = None,
) -> Adopted:
    """Make a head, fitted elsewhere on a registered extractor, the next version of a head.

    The support set as it is now is embedded with that extractor, from the kept inputs. If the version is to
    be published, the head, its examples and the published version change in one transaction; until then the
    head serves as before. An example that came since and whose input was not kept stands against that: the
    version is then added, unpublished.

    Parameters
    ----------
    embedder : of the extractor that the head was fitted on.
    name, head_id : the head to add to; with an id, it must still be that one.
    options, warnings, examples_total : how the version was made; see `NewVersion`.

    Raises
    ------
    HeadNotFoundError
        There is no such head any more.
    ApiError
        409: it is of another task, or others changed it at every attempt.
    ExtractorNotFoundError
        The extractor was removed meanwhile.
    StoreUnavailableError
    """
    if head.extractor_digest != embedder.extractor.digest:
        raise ValueError(f"expected a head of {embedder.extractor.digest}, got {head.extractor_digest}")
    head = on_rows(head, embedder.extractor)
    for _ in range(MAX_ATTEMPTS):
        current = store.heads.get(name)
        if head_id not in (None, current.id):
            raise HeadNotFoundError(name)
        if current.task != head.task:
            raise ApiError(409, "task_mismatch", f"head {name!r} is {current.task}, the new one {head.task}")
        vectors, obstacle = _embedded(store, embedder, current)
        version = new_version(
            head,
            current,
            publish=publish and obstacle is None,
            options=options or {},
            warnings=(*head.report.warnings, *warnings),
            examples_total=examples_total,
        )
        try:
            committed = commit_version(store, embedder, current, version, vectors)
        except RevisionConflictError:
            continue
        return Adopted(
            committed.head, committed.head.last_version, version.publish, obstacle if publish else None
        )
    raise conflict()


def new_version(
    head: Head,
    current: HeadRow,
    *,
    publish: bool,
    options: Mapping[str, Any],
    warnings: Sequence[Mapping[str, str]],
    examples_total: int | None = None,
) -> NewVersion:
    """The head as a version that follows the one that is published."""
    return NewVersion(
        file=save_head(replace(head, parent_version=current.published_version)),
        classes=head.classes,
        options=options,
        report=head.report.as_dict(),
        warnings=warnings,
        parent_version=current.published_version,
        publish=publish,
        examples_total=examples_total,
    )


def commit_version(
    store: Store,
    embedder: Embedder,
    current: HeadRow,
    version: NewVersion,
    vectors: Mapping[str, Vector],
) -> Committed:
    """Add a version of the embedder's extractor. One to be published takes the head to that extractor.

    Parameters
    ----------
    current : the head as it was read; a change since is a conflict.
    vectors : embeddings of its inputs by that extractor.

    Raises
    ------
    RevisionConflictError
    ExtractorNotFoundError
        The extractor was removed meanwhile.
    """
    extractor = (embedder.extractor.name, embedder.extractor.digest)
    stays = embedder.extractor.digest == current.extractor_digest
    if not version.publish and not stays:
        version = replace(version, extractor=extractor)
        extractor = (current.extractor_name, current.extractor_digest)
    with metrics.stage("store"):
        committed = store.heads.commit(
            Change(
                head=current.name,
                extractor_name=extractor[0],
                extractor_digest=extractor[1],
                head_id=current.id,
                expected_revision=current.revision,
                move=version.publish and not stays,
                embeddings=vectors if version.publish else {},
                version=version,
                registered=embedder.registration,
            )
        )
    metrics.VERSIONS.inc()
    return committed


def _embedded(store: Store, embedder: Embedder, current: HeadRow) -> tuple[Mapping[str, Vector], str | None]:
    """The support set through the embedder's extractor, or why that cannot be."""
    support = store.examples.support_set(current.id)
    try:
        return reembed(store, embedder, support, keep=True).vectors, None
    except ApiError as error:
        return {}, error.message
