"""The rows of a head's support set from the caches: nothing is embedded. Knows nothing of their use."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.embedding.embedder import Embedder
from service.embedding.embedders import Embedders
from service.errors import ApiError
from service.inputs.support import Member, arranged
from service.learning.learner import MAX_ATTEMPTS
from service.store import HeadRow, Store, SupportSet


@dataclass(frozen=True, eq=False)
class SupportRows:
    """The support set of a head as it is now.

    Attributes
    ----------
    keys : sha256 of each input
    labels : one label of each input, or of a multi-label head all
    matrix : (len(keys), width) float32, rows of `embedder`
    """

    head: HeadRow
    support: SupportSet
    embedder: Embedder
    keys: Sequence[str]
    labels: Sequence[str] | Sequence[Collection[str]]
    matrix: npt.NDArray[np.float32]

    @property
    def unseen(self) -> list[bool] | None:
        """Whether `embedder`'s extractor was not trained on each input; None if it was on none."""
        return self.embedder.extractor.tuned_on.unseen(self.keys)


def read_rows(store: Store, embedders: Embedders, name: str) -> SupportRows:
    """Read the support set of a head with its cached rows.

    Raises
    ------
    HeadNotFoundError
    ApiError
        409: the head's extractor is not loaded, or examples were removed at every attempt.
    """
    for _ in range(MAX_ATTEMPTS):
        head = store.heads.get(name)
        support = store.examples.support_set(head.id)
        embedder = embedders.with_digest(support.extractor_digest)
        vectors = embedder.cached(support.keys)
        if all(key in vectors for key in support.keys):
            break
    else:
        raise ApiError(409, "conflict", "others removed examples at every attempt; try again")
    members = [Member(key, label) for key, label in zip(support.keys, support.labels, strict=True)]
    keys, labels = arranged(members, support.task)
    return SupportRows(head, support, embedder, keys, labels, embedder.matrix(keys, vectors))
