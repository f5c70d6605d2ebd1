"""A batch of inputs, and the builder that counts and limits them.

Knows the limits of one input and of their number. Does not know which form the request had.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from service.config import Settings
from service.errors import ApiError, ItemError
from service.ingest.inline import decode_text, is_url
from service.ingest.names import validate_id, validate_label

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
# One label, several or none, as the client wrote them.
WrittenLabels = str | tuple[str, ...] | None


@dataclass(frozen=True)
class Input:
    """One input: its bytes, undecoded. `index` counts all items of the request, in order.

    `labels` are all that one item was given, without repeats; of an unlabelled request there are none.
    """

    index: int
    data: bytes = field(repr=False)
    labels: tuple[str, ...]
    id: str | None

    @property
    def label(self) -> str | None:
        """The label, if there is exactly one."""
        return _only(self.labels)


@dataclass(frozen=True)
class Batch:
    """What a request brought.

    Attributes
    ----------
    inputs : the usable inputs, by ascending index.
    rejected : the items that are known to be bad, by ascending index.
    total : how many items the request had: `len(inputs) + len(rejected)`.
    options : the other keys of a JSON body, unchecked.
    """

    inputs: tuple[Input, ...]
    rejected: tuple[ItemError, ...]
    total: int
    options: Mapping[str, Any] = field(default_factory=lambda: NO_OPTIONS)


@dataclass(frozen=True)
class Slot:
    """The place of one item in its batch, before its bytes are there."""

    index: int
    labels: tuple[str, ...]
    id: str | None


@dataclass(frozen=True)
class Link:
    """An input that is still behind a URL."""

    slot: Slot
    url: str


class BatchBuilder:
    """Takes the items of one request in order; each becomes an input, a link or an item error."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.total = 0
        self.examples = 0
        self.unpacked_bytes = 0
        self.links: list[Link] = []
        self._inputs: list[Input] = []
        self._rejected: list[ItemError] = []

    @property
    def room(self) -> int:
        """How many more items fit: each label of an item takes a place, and an item without one takes one."""
        return self.settings.max_inputs - self.examples

    def add(self, data: bytes, label: WrittenLabels, id: str | None, param: str | None = None) -> None:
        """Add one input by its bytes; `label` and `id` as the client wrote them.

        Raises
        ------
        ApiError
            413 `too_many_inputs`; 422 for a label that cannot be used (`param` says where it was).
        """
        slot = self._claim(label, id, param)
        if slot is not None:
            self.settle(slot, data)

    def add_text(self, text: str, label: WrittenLabels, id: str | None, param: str | None = None) -> None:
        """Add one input written as a string: data URI, base64 or URL; raises what `add` raises."""
        slot = self._claim(label, id, param)
        if slot is None:
            return
        try:
            if is_url(text):
                self._add_url(slot, text)
            else:
                self.settle(slot, decode_text(text))
        except ApiError as error:
            self.reject(slot, error)

    def add_error(
        self, error: ApiError, label: WrittenLabels, id: str | None, param: str | None = None
    ) -> None:
        """Add one input that is already known to be bad; raises what `add` raises."""
        slot = self._claim(label, id, param)
        if slot is not None:
            self.reject(slot, error)

    def settle(self, slot: Slot, data: bytes) -> None:
        """Fill a slot: with an input, or with an error if there are no bytes or too many."""
        if not data:
            self.reject(slot, ApiError(422, "empty_input", "the input is empty"))
        elif len(data) > self.settings.max_input_bytes:
            self.reject(slot, input_too_large(self.settings.max_input_bytes))
        else:
            self._inputs.append(Input(slot.index, data, slot.labels, slot.id))

    def reject(self, slot: Slot, error: ApiError) -> None:
        """Fill a slot with what is wrong with its input."""
        item = ItemError(slot.index, error.status, error.code, error.message, slot.id, _only(slot.labels))
        self._rejected.append(item)

    def build(self, options: Mapping[str, Any] = NO_OPTIONS) -> Batch:
        return Batch(
            inputs=tuple(sorted(self._inputs, key=lambda item: item.index)),
            rejected=tuple(sorted(self._rejected, key=lambda item: item.index)),
            total=self.total,
            options=MappingProxyType(dict(options)),
        )

    def _claim(self, label: WrittenLabels, id: str | None, param: str | None) -> Slot | None:
        """The next slot; None if its id cannot be used, which has then been recorded."""
        index = self.total
        labels = _validated(label, param or f"inputs[{index}].label")
        self.total += 1
        self.examples += max(1, len(labels))
        if self.room < 0:
            raise too_many_inputs(self.settings.max_inputs)
        try:
            return Slot(index, labels, None if id is None else validate_id(id))
        except ApiError as error:
            self.reject(Slot(index, labels, None), error)
            return None

    def _add_url(self, slot: Slot, url: str) -> None:
        if not self.settings.fetch_urls:
            message = "this server does not fetch URLs; send the content (HEADSTART_FETCH_URLS turns it on)"
            raise ApiError(422, "urls_disabled", message)
        self.links.append(Link(slot, url))


def _validated(label: WrittenLabels, param: str) -> tuple[str, ...]:
    if label is None:
        return ()
    if isinstance(label, str):
        return (validate_label(label, param),)
    labels = [validate_label(text, f"{param}[{place}]") for place, text in enumerate(label)]
    return tuple(dict.fromkeys(labels))


def _only(labels: tuple[str, ...]) -> str | None:
    return labels[0] if len(labels) == 1 else None


def too_many_inputs(max_inputs: int) -> ApiError:
    message = f"a request can have {max_inputs} inputs, each label counted (HEADSTART_MAX_INPUTS), got more"
    return ApiError(413, "too_many_inputs", message, headers={"Connection": "close"})


def input_too_large(max_input_bytes: int) -> ApiError:
    message = f"an input can have {max_input_bytes} bytes (HEADSTART_MAX_INPUT_BYTES), got more"
    return ApiError(413, "input_too_large", message)
