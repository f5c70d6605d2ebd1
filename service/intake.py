"""The inputs of one request, embedded: which can be used, which cannot, and how they join a support set.

Knows the rules for bad and duplicate inputs. Knows no fitting and runs no transaction.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.embedder import Embedded, Embedder
from service.errors import ApiError, ItemError, batch_error, status_of
from service.ingest import Batch, Input
from service.store import NewExample


@dataclass(frozen=True)
class Member:
    """One example of a support set to be: stored under `id`, or `new`."""

    key: str
    label: str
    id: str | None = None
    new: NewExample | None = None


@dataclass(frozen=True)
class Counts:
    """What became of the inputs of one request."""

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
    """

    inputs: tuple[Input, ...]
    keys: tuple[str, ...]
    rejected: tuple[ItemError, ...]
    embedded: Embedded
    wall_s: float

    @classmethod
    def of(cls, batch: Batch, embedder: Embedder, *, skip_bad: bool) -> "Intake":
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
        )

    def matrix(self) -> npt.NDArray[np.float32]:
        """The embeddings of the usable inputs, shape (len(inputs), dim)."""
        return np.stack([self.embedded.vectors[key] for key in self.keys])

    def join(self, members: Sequence[Member]) -> tuple[list[Member], Counts]:
        """Add the inputs to the members of a support set.

        The same bytes under the same label are there once.

        Raises
        ------
        ApiError
            The same bytes are there, or in this batch, under another label.
        """
        by_key = {member.key: member for member in members}
        joined = list(members)
        for item, key in zip(self.inputs, self.keys, strict=True):
            label = item.labels[0]
            there = by_key.get(key)
            if there is None:
                example = NewExample(label, key, size_bytes=len(item.data), source_id=item.id)
                by_key[key] = Member(key, label, new=example)
                joined.append(by_key[key])
            elif there.label != label:
                raise _label_conflict(item, there)
        added = len(joined) - len(members)
        embedded = sum(key in self.embedded.computed for key in self.keys)
        counts = Counts(
            total=len(joined),
            added=added,
            duplicates=len(self.inputs) - added,
            embedded=embedded,
            cached=len(self.inputs) - embedded,
            rejected=self.rejected,
        )
        return joined, counts

    def vectors_of(self, members: Sequence[Member]) -> Mapping[str, npt.NDArray[np.float32]]:
        """The embeddings that must be stored with the new members."""
        return {member.key: self.embedded.vectors[member.key] for member in members if member.new}


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


def _label_conflict(item: Input, there: Member) -> ApiError:
    where = f"already example {there.id}" if there.id else "also given in this request"
    return ApiError(
        409,
        "label_conflict",
        f"input {item.index} is {where} under label {there.label!r}, not {item.label!r}",
        param=f"inputs[{item.index}]",
        details={"existing": {"id": there.id, "label": there.label}},
    )
