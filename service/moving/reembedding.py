"""The inputs of a support set through another extractor: from its cache, else from the kept inputs.

Knows no fitting, no version and no HTTP beyond the documented errors.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from service.embedding.embedder import Embedder
from service.errors import ApiError
from service.store import InputNotKeptError, RevisionConflictError, Store, SupportSet, Vector

# Of what is read at once before it is embedded; one input may be larger.
CHUNK_INPUTS = 256
CHUNK_BYTES = 32 * 1024 * 1024

Reader = Callable[[], bytes]


@dataclass(frozen=True)
class Reembedded:
    """The row of an extractor, shape (width,), for every input of a support set, by sha256.

    `embedded` are those that no cache had.
    """

    vectors: Mapping[str, Vector]
    embedded: int


def reembed(store: Store, embedder: Embedder, support: SupportSet, *, keep: bool) -> Reembedded:
    """Embed a support set with an extractor that need not be its own.

    Parameters
    ----------
    keep : store what is embedded at once, so that a call that is cut off was not for nothing.

    Raises
    ------
    ApiError
        409: inputs that are needed were not kept (`inputs_not_kept`), or cannot be embedded.
    RevisionConflictError
        An example was removed meanwhile.
    StoreUnavailableError
    """
    keys = tuple(dict.fromkeys(support.keys))
    vectors = embedder.cached(keys)
    absent = [key for key in keys if key not in vectors]
    readers = store.inputs.of(support.head_id) if absent else {}
    lost = [key for key in absent if key not in readers]
    if lost:
        if store.examples.support_set(support.head_id).revision != support.revision:
            raise RevisionConflictError("an example was removed while the inputs were looked up")
        raise inputs_not_kept(len(lost), len(keys), embedder)
    for inputs in _chunks({key: readers[key] for key in absent}):
        embedded = embedder.embed(inputs)
        for position, error in embedded.errors.items():
            message = f"the kept input {embedded.keys[position]} cannot be embedded: {error}"
            raise ApiError(409, "input_unusable", message)
        vectors.update(embedded.vectors)
        if keep:
            store.embeddings.put(embedder.extractor.digest, embedded.computed)
    return Reembedded(vectors, len(absent))


def inputs_not_kept(missing: int, total: int, embedder: Embedder) -> ApiError:
    """The answer where inputs would have to be embedded that the head does not keep."""
    return ApiError(
        409,
        "inputs_not_kept",
        f"{missing} of {total} inputs of this head were not kept and have no embedding by"
        f" {embedder.extractor.name!r}: add them again, or create the head anew with PUT and that extractor",
        details={"missing": missing},
    )


def _chunks(readers: Mapping[str, Reader]) -> Iterator[Sequence[bytes]]:
    """The inputs, so many at a time as memory bears.

    Raises
    ------
    RevisionConflictError
        An input is not kept any more.
    """
    chunk: list[bytes] = []
    for reader in readers.values():
        try:
            chunk.append(reader())
        except InputNotKeptError as error:
            raise RevisionConflictError("an example was removed while its input was read") from error
        if len(chunk) == CHUNK_INPUTS or sum(map(len, chunk)) >= CHUNK_BYTES:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
