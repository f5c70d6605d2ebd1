"""The answer to an evaluation, as pydantic models: for the documentation. Knows names and types only."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.schemas.errors import ItemProblem
from service.schemas.heads import TrainingWarning


class EvaluationInputs(BaseModel):
    total: int
    evaluated: Annotated[int, Field(description="Inputs that have a class.")]
    negatives: Annotated[int, Field(description="Inputs of none of the classes (label `__none__`).")]
    duplicates: Annotated[int, Field(description="Labels of inputs that were given before; counted once.")]
    in_support_set: Annotated[int, Field(description="Inputs that are examples of the head.")]
    embedded: Annotated[int, Field(description="Inputs that the extractor had to embed.")]
    cached: Annotated[int, Field(description="Inputs whose embedding was cached.")]
    rejected: list[ItemProblem]


class ClassQuality(BaseModel):
    label: str
    support: Annotated[int, Field(description="Inputs of this class.")]
    precision: float | None
    recall: float | None
    f1: float | None


class EvaluateAnswer(BaseModel):
    """Quality of a version on labelled inputs; a figure is null where nothing was counted."""

    head: Annotated[str, Field(examples=["pets"])]
    version: int
    threshold: Annotated[float, Field(description="Typicality below which an input was unknown.")]
    inputs: EvaluationInputs
    accuracy: Annotated[
        float | None,
        Field(description="Share of right answers; of a multi-label head, with every label right."),
    ]
    accuracy_low: Annotated[float | None, Field(description="Lower end of its 95 % interval (Wilson).")]
    accuracy_high: Annotated[float | None, Field(description="Upper end of its 95 % interval (Wilson).")]
    balanced_accuracy: Annotated[float | None, Field(description="Mean recall over the classes.")]
    per_class: list[ClassQuality]
    confusion: Annotated[
        dict[str, Any],
        Field(description="`matrix[i][j]`: inputs of `labels[i]` that were answered `labels[j]`."),
    ]
    calibration_error: Annotated[float | None, Field(description="Expected calibration error.")]
    log_loss: Annotated[float | None, Field(description="Mean, in nats.")]
    unknown_rate: Annotated[
        float | None, Field(description="Share of the inputs that have a class and were answered unknown.")
    ]
    negatives_rejected: Annotated[
        float | None, Field(description="Share of the negatives that were answered unknown.")
    ]
    warnings: list[TrainingWarning]
    timings_ms: dict[str, float]
