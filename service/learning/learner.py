"""Changes of a support set, each with a new head version, each in one transaction.

Reads a snapshot, plans, fits, and commits only if nobody changed the head meanwhile; else it starts again
from the new state. Knows no HTTP beyond the documented errors.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from service import metrics
from service.embedding.embedder import Embedder
from service.embedding.embedders import Embedders
from service.errors import ApiError
from service.ingest import Batch
from service.inputs.intake import Counts, Intake
from service.inputs.keeper import Keeper
from service.inputs.support import Member, arranged, class_names, of_classes
from service.learning.layers import require_layers
from service.learning.plan import Plan
from service.learning.train_options import TrainOptions
from service.store import (
    SINGLE_LABEL,
    Change,
    Committed,
    HeadRow,
    NewExample,
    NewVersion,
    RevisionConflictError,
    Store,
    Task,
)
from training.heads import Head, fit_head, save_head

# A writer that loses this often against others gives up with a 409 and leaves the retry to its caller.
MAX_ATTEMPTS = 8


class HeadMovedError(Exception):
    """The embeddings that were made for a head are not of its extractor any more. No client sees it."""


@dataclass(frozen=True)
class Taught:
    """The outcome of a change: the head as it is now and, if it was trained, the new version."""

    head: HeadRow
    classes: tuple[str, ...]
    counts: Counts
    example_ids: tuple[str, ...]
    version: int | None
    trained: Head | None
    timings_ms: Mapping[str, float]


class Learner:
    """Creates, changes and trains heads.

    Parameters
    ----------
    keep_inputs : whether a new head keeps the bytes of its examples, where its creator does not say.
    """

    def __init__(self, store: Store, embedders: Embedders, keeper: Keeper, *, keep_inputs: bool) -> None:
        self._store = store
        self._embedders = embedders
        self._keeper = keeper
        self._keep_inputs = keep_inputs

    def replace(
        self,
        name: str,
        batch: Batch,
        *,
        extractor: str | None,
        task: Task = SINGLE_LABEL,
        keep_inputs: bool | None = None,
        train: TrainOptions | None,
        skip_bad: bool,
    ) -> Taught:
        """Create a head from a batch of examples, or give an existing head this support set instead.

        Parameters
        ----------
        keep_inputs : whether the head keeps the bytes of its examples; None: as before.
        """
        embedder = self._embedders.named(extractor)

        def keeps(current: HeadRow | None) -> bool:
            if keep_inputs is not None:
                return keep_inputs
            return self._keep_inputs if current is None else current.keep_inputs

        def plan(intake: Intake) -> Plan:
            members, counts = intake.join((), task)
            current = self._store.heads.find(name)
            change = Change(
                head=name,
                extractor_name=embedder.extractor.name,
                extractor_digest=embedder.extractor.digest,
                head_id=None if current is None else current.id,
                expected_revision=None if current is None else current.revision,
                replace_all=True,
                task=task,
                keep_inputs=keeps(current),
                add=_new_examples(members),
                embeddings=intake.vectors_of(members),
                registered=embedder.registration,
            )
            return Plan(change, members, counts, current, task)

        early = keeps(None if keep_inputs is not None else self._store.heads.find(name))
        return self._take_in(plan, embedder, batch, train, skip_bad=skip_bad, keep=early)

    def add(self, name: str, batch: Batch, *, train: TrainOptions | None, skip_bad: bool) -> Taught:
        """Add examples to a head. If all are there already under the same labels, nothing changes."""
        keep = self._store.heads.get(name).keep_inputs

        def attempt(embedder: Embedder) -> Taught:
            def plan(intake: Intake) -> Plan:
                current = self._current(name, embedder)
                members, counts = intake.join(current.members, current.task)
                change = replace(
                    current.change, add=_new_examples(members), embeddings=intake.vectors_of(members)
                )
                return replace(current, change=change, members=members, counts=counts)

            return self._take_in(plan, embedder, batch, train, skip_bad=skip_bad, keep=keep)

        return self._on_its_extractor(name, attempt)

    def remove(self, name: str, example_id: str, *, train: TrainOptions | None) -> Taught:
        """Remove one example."""
        return self._edit(name, lambda plan: plan.without([plan.example(example_id)]), train)

    def relabel(self, name: str, example_id: str, label: str, *, train: TrainOptions | None) -> Taught:
        """Give one example another label, which its input must not have yet."""

        def edit(plan: Plan) -> Plan:
            return plan.relabelled([plan.example(example_id)], label, merge=False)

        return self._edit(name, edit, train)

    def remove_label(self, name: str, label: str, *, train: TrainOptions | None) -> Taught:
        """Remove every example of a label."""
        return self._edit(name, lambda plan: plan.without(plan.labelled(label)), train)

    def rename_label(self, name: str, label: str, to: str, *, train: TrainOptions | None) -> Taught:
        """Give every example of a label another; an input that has the other already keeps it once."""

        def edit(plan: Plan) -> Plan:
            return plan.relabelled(plan.labelled(label), to, merge=True)

        return self._edit(name, edit, train)

    def train(self, name: str, train: TrainOptions) -> Taught:
        """A new version from the support set as it is."""

        def attempt(embedder: Embedder) -> Taught:
            require_layers(embedder.extractor, None if train is None else train.fit)
            return self._carry_out(lambda: self._current(name, embedder), embedder, train, None, always=True)

        return self._on_its_extractor(name, attempt)

    def _take_in(
        self,
        plan: Callable[[Intake], Plan],
        embedder: Embedder,
        batch: Batch,
        train: TrainOptions | None,
        *,
        skip_bad: bool,
        keep: bool,
    ) -> Taught:
        """Embed a batch and carry out the plan for it; to `keep` its inputs, they are written meanwhile."""
        require_layers(embedder.extractor, None if train is None else train.fit)
        with self._keeper.keeping([item.data for item in batch.inputs] if keep else ()) as keeping:
            intake = Intake.of(batch, embedder, skip_bad=skip_bad, keeping=keeping)
            return self._carry_out(lambda: plan(intake), embedder, train, intake)

    def _edit(self, name: str, edit: Callable[[Plan], Plan], train: TrainOptions | None) -> Taught:
        def attempt(embedder: Embedder) -> Taught:
            return self._carry_out(lambda: edit(self._current(name, embedder)), embedder, train, None)

        return self._on_its_extractor(name, attempt)

    def _on_its_extractor(self, name: str, attempt: Callable[[Embedder], Taught]) -> Taught:
        """Attempt with the embedder of the head's extractor; anew if the head moves to another meanwhile."""
        for _ in range(MAX_ATTEMPTS):
            head = self._store.heads.get(name)
            try:
                return attempt(self._embedders.with_digest(head.extractor_digest))
            except HeadMovedError:
                continue
        raise conflict()

    def _current(self, name: str, embedder: Embedder) -> Plan:
        """The head's support set as it is, and an empty change that fails once it is another.

        Raises
        ------
        HeadMovedError
            The head has moved to another extractor.
        """
        head = self._store.heads.get(name)
        support = self._store.examples.support_set(head.id)
        if support.extractor_digest != embedder.extractor.digest:
            raise HeadMovedError(f"head {name!r} has moved to another extractor")
        members = [
            Member(key, label, id=example_id)
            for example_id, key, label in zip(support.ids, support.keys, support.labels, strict=True)
        ]
        change = Change(
            head=name,
            extractor_name=support.extractor_name,
            extractor_digest=support.extractor_digest,
            head_id=support.head_id,
            expected_revision=support.revision,
        )
        counts = Counts(total=len(members), cached=len(members))
        return Plan(change, members, counts, head, support.task)

    def _carry_out(
        self,
        plan: Callable[[], Plan],
        embedder: Embedder,
        train: TrainOptions | None,
        intake: Intake | None,
        *,
        always: bool = False,
    ) -> Taught:
        """Plan and commit until nobody changed the head meanwhile; a plan of no change only if `always`."""
        start = time.perf_counter() - (intake.wall_s if intake else 0.0)
        for _ in range(MAX_ATTEMPTS):
            try:
                planned = plan()
                if planned.head and not (always or planned.changes_examples):
                    return _unchanged(planned, planned.head, time.perf_counter() - start)
                return self._attempt(planned, embedder, train, intake, start)
            except RevisionConflictError:
                continue
        raise conflict()

    def _attempt(
        self,
        plan: Plan,
        embedder: Embedder,
        train: TrainOptions | None,
        intake: Intake | None,
        start: float,
    ) -> Taught:
        fit_start = time.perf_counter()
        train = None if train is None else self._complete(train, plan, embedder)
        head = None if train is None else self._fit(plan, embedder, train, intake)
        fit_end = time.perf_counter()
        change = plan.change
        if head is not None and train is not None:
            change = replace(change, version=_new_version(head, train))
            metrics.VERSIONS.inc()
        with metrics.stage("store"):
            committed = self._commit(change, intake if plan.keeps_inputs else None)
        timings_s = {
            "decode": intake.embedded.decode_s if intake else 0.0,
            "embed": intake.embedded.embed_s if intake else 0.0,
            "fit": fit_end - fit_start,
            "store": time.perf_counter() - fit_end,
            "total": time.perf_counter() - start,
        }
        return Taught(
            head=committed.head,
            classes=class_names(plan.members) if head is None else head.classes,
            counts=plan.counts,
            example_ids=committed.example_ids,
            version=committed.version,
            trained=head,
            timings_ms={name: round(seconds * 1e3, 3) for name, seconds in timings_s.items()},
        )

    def _complete(self, train: TrainOptions, plan: Plan, embedder: Embedder) -> TrainOptions:
        """The options with what they leave open, from the newest version on the head's extractor."""
        before = None
        if plan.head is not None and train.said is not None:
            before = self._store.versions.newest(plan.head.id, embedder.extractor.digest)
        return train.after(before, embedder.extractor.layer_dims).of_task(plan.task)

    def _commit(self, change: Change, intake: Intake | None) -> Committed:
        """Commit, with the inputs of an intake that are to be kept."""
        if intake is None or intake.keeping is None:
            return self._store.heads.commit(change)
        written = intake.keeping.written(intake.bytes_of(change.add))
        with intake.keeping.given(written):
            return self._store.heads.commit(replace(change, inputs=written))

    def _fit(self, plan: Plan, embedder: Embedder, train: TrainOptions, intake: Intake | None) -> Head:
        keys, labels = arranged(of_classes(plan.members, train.classes), plan.task)
        vectors = dict(intake.embedded.vectors) if intake else {}
        vectors.update(embedder.cached([key for key in keys if key not in vectors]))
        if any(key not in vectors for key in keys):
            raise RevisionConflictError("an example was removed while its embedding was read")
        with metrics.stage("fit"):
            return fit_head(
                embedder.matrix(keys, vectors),
                labels,
                extractor_digest=embedder.extractor.digest,
                options=train.fit,
                layer_dims=embedder.extractor.layer_dims,
                parent_version=plan.parent_version,
                unseen=embedder.extractor.tuned_on.unseen(keys),
            )


def conflict() -> ApiError:
    """The answer to a change that lost against others at every attempt."""
    return ApiError(409, "conflict", "others changed this head at every attempt; try again")


def _unchanged(plan: Plan, head: HeadRow, wall_s: float) -> Taught:
    return Taught(
        head=head,
        classes=class_names(plan.members),
        counts=plan.counts,
        example_ids=(),
        version=None,
        trained=None,
        timings_ms={"total": round(wall_s * 1e3, 3)},
    )


def _new_examples(members: Sequence[Member]) -> tuple[NewExample, ...]:
    return tuple(member.new for member in members if member.new)


def _new_version(head: Head, train: TrainOptions) -> NewVersion:
    return NewVersion(
        file=save_head(head),
        classes=head.classes,
        options=train.as_dict(),
        report=head.report.as_dict(),
        warnings=head.report.warnings,
        parent_version=head.parent_version,
        publish=train.publish,
    )
