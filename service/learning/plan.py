"""A change of a head before it is carried out. Knows what follows from it; reads and writes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from service.errors import ApiError
from service.inputs.intake import Counts
from service.inputs.support import Member, clash, label_conflict
from service.store import Change, ExampleNotFoundError, HeadRow, Task


@dataclass(frozen=True)
class Plan:
    """A change to commit, the support set after it, what to say of it, and the head as it was read."""

    change: Change
    members: Sequence[Member]
    counts: Counts
    head: HeadRow | None
    task: Task

    @property
    def parent_version(self) -> int | None:
        return None if self.head is None else self.head.published_version

    @property
    def keeps_inputs(self) -> bool:
        """Whether the head keeps the inputs of its examples after it."""
        if self.change.keep_inputs is not None:
            return self.change.keep_inputs
        return self.head is not None and self.head.keep_inputs

    @property
    def changes_examples(self) -> bool:
        """Whether the support set would be another after it."""
        change = self.change
        return change.replace_all or bool(change.add or change.remove or change.relabel)

    def example(self, example_id: str) -> Member:
        """The member that is stored under an id.

        Raises
        ------
        ExampleNotFoundError
        """
        for member in self.members:
            if member.id == example_id:
                return member
        raise ExampleNotFoundError(self.change.head, [example_id])

    def labelled(self, label: str) -> list[Member]:
        """The members with a label, at least one.

        Raises
        ------
        ApiError
            404: there is none.
        """
        found = [member for member in self.members if member.label == label]
        if not found:
            message = f"the head {self.change.head!r} has no example with the label {label!r}"
            raise ApiError(404, "label_not_found", message, param="label")
        return found

    def without(self, members: Sequence[Member]) -> "Plan":
        """The plan that removes some members."""
        return self._edited(members, {})

    def relabelled(self, members: Sequence[Member], label: str, *, merge: bool) -> "Plan":
        """The plan that gives some members, each of another input, another label.

        Parameters
        ----------
        merge : remove a member whose input has that label already, rather than refuse it.

        Raises
        ------
        ApiError
            409: an input cannot have that label beside its others.
        """
        chosen = {member.id for member in members}
        others: dict[str, dict[str, Member]] = {member.key: {} for member in members}
        for member in self.members:
            if member.key in others and member.id not in chosen:
                others[member.key][member.label] = member
        renamed: dict[str | None, str] = {}
        merged: list[Member] = []
        for member in members:
            if member.label == label:
                continue
            beside = clash(others[member.key], label, self.task)
            if beside is None:
                renamed[member.id] = label
            elif merge and beside.label == label:
                merged.append(member)
            else:
                raise label_conflict(f"the input of example {member.id}", label, beside, "label")
        return self._edited(merged, renamed)

    def _edited(self, removed: Sequence[Member], labels: dict[str | None, str]) -> "Plan":
        gone = {member.id for member in removed}
        members = [
            replace(member, label=labels.get(member.id, member.label))
            for member in self.members
            if member.id not in gone
        ]
        change = replace(
            self.change,
            remove=tuple(example_id for example_id in gone if example_id),
            relabel={example_id: label for example_id, label in labels.items() if example_id},
        )
        counts = Counts(total=len(members), cached=len(members))
        return replace(self, change=change, members=members, counts=counts)
