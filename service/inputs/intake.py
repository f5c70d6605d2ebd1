"""The inputs of one request, embedded: which can be used, which cannot, and how they join a support set.

Knows the rules for bad and duplicate inputs. Knows no fitting and runs no transaction.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.embedding.embedder import Embedded, Embedder
from service.errors import ApiError, ItemError, batch_error, status_of
from service.ingest import Batch, Input
from service.inputs.keeper import Keeping
from service.inputs.support import Member, clash, label_conflict
from service.store import SINGLE_LABEL, NewExample, Task


@dataclass(frozen=True)
class Counts:
    """What became of the inputs of one request.

    Attributes
    ----------
    total, added, duplicates : examples: each label of an input is one.
    embedded, cached : inputs.
    """

    total: int
    added: int = 0
    duplicates: int = 0
    embedded: int = 0
    cached: int = 0
    rejected: tuple[ItemError, ...] = ()


@dataclass(frozen=True)
class Intake:
    """A batch after embedding.

    Attributes
    ----------
    inputs, keys : the inputs that can be used, in order, and the sha256 of each.
    rejected : those that cannot, in order; empty unless the caller asked to skip them.
    embedded : vectors and timings of the whole batch.
    wall_s : time that embedding took.
    keeping : what writes the inputs meanwhile, if a head may keep them.
    """

    inputs: tuple[Input, ...]
    keys: tuple[str, ...]
    rejected: tuple[ItemError, ...]
    embedded: Embedded
    wall_s: float
    keeping: Keeping | None = None

    @classmethod
    def of(
        cls, batch: Batch, embedder: Embedder, *, skip_bad: bool, keeping: Keeping | None = None
    ) -> "Intake":
        """Embed a batch.

        Raises
        ------
        ApiError
            No input at all, no input that can be used or, unless `skip_bad`, any input that cannot.
        """
        if batch.total == 0:
            raise ApiError(422, "no_inputs", "expected at least one input, found none")
        start = time.perf_counter()
        doomed = None if skip_bad else threading.Event()
        if doomed and batch.rejected:
            doomed.set()
        embedded = embedder.embed([item.data for item in batch.inputs], doomed=doomed)
        rejected = _rejected(batch, embedded)
        usable = [i for i in range(len(batch.inputs)) if i not in embedded.errors]
        if rejected and (not skip_bad or not usable):
            raise batch_error(rejected, batch.total)
        return cls(
            inputs=tuple(batch.inputs[i] for i in usable),
            keys=tuple(embedded.keys[i] for i in usable),
            rejected=rejected,
            embedded=embedded,
            wall_s=time.perf_counter() - start,
            keeping=keeping,
        )

    def matrix(self) -> npt.NDArray[np.float32]:
        """The rows of the usable inputs, shape (len(inputs), width)."""
        return np.stack([self.embedded.vectors[key] for key in self.keys])

    def join(self, members: Sequence[Member], task: Task) -> tuple[list[Member], Counts]:
        """Add the inputs to the members of a support set.

        The same bytes under the same label are there once.

        Raises
        ------
        ApiError
            409: the same bytes are there, or in this batch, under a label that does not go with this one.
            422: an input has several labels, and the head is a single-label head.
        """
        there: dict[str, dict[str, Member]] = {}
        for member in members:
            there.setdefault(member.key, {})[member.label] = member
        joined = list(members)
        for item, key in zip(self.inputs, self.keys, strict=True):
            if task == SINGLE_LABEL and len(item.labels) > 1:
                raise _several_labels(item)
            beside = there.setdefault(key, {})
            for label in item.labels:
                if label not in beside:
                    beside[label] = _new_member(item, key, label, beside, task)
                    joined.append(beside[label])
        added = len(joined) - len(members)
        embedded = len(self.embedded.computed.keys() & set(self.keys))
        counts = Counts(
            total=len(joined),
            added=added,
            duplicates=sum(len(item.labels) for item in self.inputs) - added,
            embedded=embedded,
            cached=len(self.inputs) - embedded,
            rejected=self.rejected,
        )
        return joined, counts

    def vectors_of(self, members: Sequence[Member]) -> Mapping[str, npt.NDArray[np.float32]]:
        """The embeddings that must be stored with the new members."""
        return {member.key: self.embedded.vectors[member.key] for member in members if member.new}

    def bytes_of(self, examples: Sequence[NewExample]) -> Mapping[str, bytes]:
        """The bytes of the inputs of new examples, by their sha256."""
        data_of = {key: item.data for key, item in zip(self.keys, self.inputs, strict=True)}
        return {example.sha256: data_of[example.sha256] for example in examples}


def _rejected(batch: Batch, embedded: Embedded) -> tuple[ItemError, ...]:
    found = [
        ItemError(
            index=item.index,
            status=status_of(error),
            code=error.code,
            message=str(error),
            id=item.id,
            label=item.label,
        )
        for item, error in ((batch.inputs[i], error) for i, error in embedded.errors.items())
    ]
    return tuple(sorted([*batch.rejected, *found], key=lambda item: item.index))


def _new_member(item: Input, key: str, label: str, beside: Mapping[str, Member], task: Task) -> Member:
    other = clash(beside, label, task)
    if other is not None:
        raise label_conflict(f"input {item.index}", label, other, f"inputs[{item.index}]")
    example = NewExample(label, key, size_bytes=len(item.data), source_id=item.id)
    return Member(key, label, new=example)


def _several_labels(item: Input) -> ApiError:
    message = f"input {item.index} has {len(item.labels)} labels, and an input of a single-label head has one"
    return ApiError(422, "too_many_labels", message, param=f"inputs[{item.index}].labels")
