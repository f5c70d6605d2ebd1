"""Queues the fine-tuning of a head, if the head and the options allow it. Needs no torch; trains nothing."""

from collections import Counter
from collections.abc import Container, Sequence

from service.errors import ApiError
from service.schemas.parameters import FinetuneRequest
from service.store import SINGLE_LABEL, HeadRow, JobRow, Store, SupportSet
from training.errors import FinetuneError, NoExamplesError, SupportSetError, TooFewClassesError
from training.finetune.options import FinetuneOptions
from training.heads import NEGATIVE_LABEL

KIND = "finetune"
PUBLISH = "publish"  # the one option that is the job's, not the training's
FEWEST_OF_A_CLASS = 2  # one to train on, one to judge by


class Finetuner:
    """Makes jobs of requests."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def queue(self, name: str, request: FinetuneRequest) -> JobRow:
        """Write down that a head is to be fine-tuned; a worker does it.

        Raises
        ------
        HeadNotFoundError
        JobExistsError
            The head has an unfinished fine-tuning.
        ApiError
            409: several labels of an input, or inputs that were not kept. 422: options that do not fit.
        SupportSetError
            Too few examples.
        """
        require_options(request)
        head = self._store.heads.get(name)
        support = self._store.examples.support_set(head.id)
        require_trainable(head, support)
        require_kept(head, support.keys, self._store.inputs.of(head.id))
        return self._store.jobs.create(name, KIND, request.model_dump())


def require_options(request: FinetuneRequest) -> None:
    """Raise an ApiError (422) if the options do not go together."""
    try:
        FinetuneOptions.from_dict(request.model_dump(exclude={PUBLISH}))
    except FinetuneError as error:
        key, _, _ = str(error).partition(":")
        raise ApiError(422, "invalid_parameter", str(error), param=key) from error


def require_trainable(head: HeadRow, support: SupportSet) -> None:
    """Raise an ApiError or a SupportSetError if the examples cannot be trained on."""
    if support.task != SINGLE_LABEL:
        message = f"head {head.name!r} is a multi-label head; only single-label heads can be fine-tuned"
        raise ApiError(409, "task_mismatch", message)
    counts = Counter(support.labels)
    if not counts:
        raise NoExamplesError(f"head {head.name!r} has no examples to train on")
    if len(counts.keys() - {NEGATIVE_LABEL}) < 2:
        raise TooFewClassesError(f"head {head.name!r} has one class; expected at least two to train on")
    rare = [label for label, count in sorted(counts.items()) if count < FEWEST_OF_A_CLASS]
    if rare:
        raise SupportSetError(
            f"expected at least {FEWEST_OF_A_CLASS} examples of each class, {rare[0]!r} has 1"
        )


def require_kept(head: HeadRow, keys: Sequence[str], kept: Container[str]) -> None:
    """Raise an ApiError (409) if the head does not keep one of its inputs."""
    missing = sum(key not in kept for key in keys)
    if missing:
        raise ApiError(
            409,
            "inputs_not_kept",
            f"{missing} of {len(keys)} inputs of head {head.name!r} were not kept, and training needs the"
            " originals: create the head anew with keep_inputs=true",
            details={"missing": missing},
        )
