"""What the store is asked to write to a head: plain frozen requests. Knows no database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from service.store.records import HeadRow, Task

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NewExample:
    """One label of one input, to add.

    `sha256` is of the input's bytes; `source_id` is the caller's name for it.
    """

    label: str
    sha256: str
    size_bytes: int
    source_id: str | None = None


@dataclass(frozen=True)
class NewInput:
    """The bytes of an input that were written as a blob under this key, for a head to keep."""

    blob: str
    size_bytes: int


@dataclass(frozen=True)
class NewVersion:
    """A version to add. The mappings and warnings must be JSON (no NaN). `file` is the head file.

    `examples_total` is how many examples it was trained on; None for all that the head has. `extractor` is
    the name and digest of the extractor that it was trained on; None for the head's. Only a version of the
    head's extractor may be published.
    """

    file: bytes
    classes: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[Any] = ()
    parent_version: int | None = None
    publish: bool = True
    examples_total: int | None = None
    extractor: tuple[str, str] | None = None


@dataclass(frozen=True)
class Change:
    """Everything one write does to one head: all of it happens, or nothing.

    Parameters
    ----------
    head : name of the head.
    head_id, expected_revision : the head as the caller read it; both None to create it.
    replace_all : drop all examples first. Only then may the task be another one, and the extractor.
    move : take all examples as they are to the extractor of this change.
    task : of a new or replaced support set; None keeps the head's, and a new head then is single-label.
    keep_inputs : whether the head keeps the bytes of its examples; None keeps the head's choice, and a new
        head then keeps none. Only a new or replaced support set may have another choice.
    add : new examples, in order.
    remove : ids of examples to drop.
    relabel : new label for each example id.
    embeddings : float32 vectors by the sha256 of their input; those that are stored already may be left out.
    inputs : bytes of new examples to keep, by their sha256; the store deletes them with their examples.
    version : the version trained on the support set as it is after this change.
    registered : names by digest of the registered extractors that the change relies on: it is refused if one
        of them is gone.
    """

    head: str
    extractor_name: str
    extractor_digest: str
    head_id: int | None = None
    expected_revision: int | None = None
    replace_all: bool = False
    move: bool = False
    task: Task | None = None
    keep_inputs: bool | None = None
    add: Sequence[NewExample] = ()
    remove: Sequence[str] = ()
    relabel: Mapping[str, str] = field(default_factory=dict)
    embeddings: Mapping[str, Vector] = field(default_factory=dict)
    inputs: Mapping[str, NewInput] = field(default_factory=dict)
    version: NewVersion | None = None
    registered: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.head_id is None) != (self.expected_revision is None):
            raise ValueError(
                "expected both head_id and expected_revision (to change a head) or neither (to create it)"
            )
        if (self.creates or self.replace_all) and (self.remove or self.relabel):
            raise ValueError("a new or replaced support set has no examples to remove or relabel")
        if self.task is not None and not (self.creates or self.replace_all):
            raise ValueError("only a new or replaced support set may have another task")
        if self.move and (self.creates or self.replace_all or self.add or self.remove or self.relabel):
            raise ValueError("a support set moves as it is")
        if self.version and self.version.extractor and self.version.publish:
            raise ValueError("only a version of the head's extractor may be published")
        if self.keep_inputs is not None and not (self.creates or self.replace_all):
            raise ValueError("only a new or replaced support set may have another choice of keep_inputs")
        if not self.inputs.keys() <= {example.sha256 for example in self.add}:
            raise ValueError("only the inputs of new examples are kept")
        if set(self.remove) & set(self.relabel):
            raise ValueError("an example is both removed and relabelled")

    @property
    def creates(self) -> bool:
        return self.expected_revision is None


@dataclass(frozen=True)
class Committed:
    """A change that was made.

    Attributes
    ----------
    head : the head after it.
    version : number of its version.
    example_ids : of the new examples.
    doomed : how many kept inputs went with it.
    """

    head: HeadRow
    version: int | None
    example_ids: tuple[str, ...]
    doomed: int = 0
