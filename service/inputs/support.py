"""The members of a support set to be, and which labels an input may have. Knows no embedding, no commit."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.errors import ApiError
from service.store import SINGLE_LABEL, NewExample, Task
from training.heads import NEGATIVE_LABEL


@dataclass(frozen=True)
class Member:
    """One label of one input: an example that is stored under `id`, or `new`."""

    key: str
    label: str
    id: str | None = None
    new: NewExample | None = None


def clash(others: Mapping[str, Member], label: str, task: Task) -> Member | None:
    """Which of the other members of an input, by label, forbids it a label, if one does.

    In a single-label head an input has one label. In a multi-label head it has each of its labels once, and
    an input of none of the classes has no other label.
    """
    if task == SINGLE_LABEL or label == NEGATIVE_LABEL:
        return next(iter(others.values()), None)
    return others.get(label) or others.get(NEGATIVE_LABEL)


def label_conflict(what: str, label: str, other: Member, param: str) -> ApiError:
    """The error for an input (`what`) that cannot have a label, because `other` is there."""
    where = f"already example {other.id}" if other.id else "also given in this request"
    so = "" if other.label == label else f", so it cannot be under {label!r}"
    return ApiError(
        409,
        "label_conflict",
        f"{what} is {where} under label {other.label!r}{so}",
        param=param,
        details={"existing": {"id": other.id, "label": other.label}},
    )


def class_names(members: Iterable[Member]) -> tuple[str, ...]:
    """The classes of a support set, ascending."""
    return tuple(sorted({member.label for member in members} - {NEGATIVE_LABEL}))


def of_classes(members: Sequence[Member], classes: Sequence[str] | None) -> Sequence[Member]:
    """The members of some classes, and the negatives; all members without `classes`.

    Raises
    ------
    ApiError
        422: a class has no example.
    """
    if classes is None:
        return members
    known = set(class_names(members))
    unknown = [name for name in classes if name not in known]
    if unknown:
        raise ApiError(422, "unknown_class", f"the head has no class {unknown[0]!r}", param="classes")
    wanted = {*classes, NEGATIVE_LABEL}
    return [member for member in members if member.label in wanted]


def arranged(
    members: Sequence[Member], task: Task
) -> tuple[Sequence[str], Sequence[str] | Sequence[Collection[str]]]:
    """The inputs to fit on and the labels of each: one label, or for a multi-label head all, sorted.

    A negative has the label `__none__`; in a multi-label head it has no label.
    """
    if task == SINGLE_LABEL:
        return [member.key for member in members], [member.label for member in members]
    labels_of: dict[str, set[str]] = {}
    for member in members:
        labels_of.setdefault(member.key, set()).add(member.label)
    return list(labels_of), [tuple(sorted(labels - {NEGATIVE_LABEL})) for labels in labels_of.values()]
