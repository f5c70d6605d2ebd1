"""The answers about heads, as pydantic models: for the documentation. Knows names and types only."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.schemas.errors import ItemProblem
from service.schemas.extractors import ExtractorRef
from service.store import Task

KeepInputs = Annotated[bool, Field(description="Whether the original bytes of examples are kept.")]


class ExampleCounts(BaseModel):
    total: Annotated[
        int, Field(description="Examples of the support set now; each label of an input is one.")
    ]
    added: Annotated[int, Field(description="Examples that were not there before.")]
    duplicates: Annotated[int, Field(description="Those that were there already under the same label.")]
    embedded: Annotated[int, Field(description="Inputs that the extractor had to embed.")]
    cached: Annotated[int, Field(description="Inputs whose embedding was cached.")]
    rejected: list[ItemProblem]
    ids: Annotated[list[str], Field(description="Ids of the added examples, in order.")]


class TrainingWarning(BaseModel):
    code: str
    message: str


class TaughtAnswer(BaseModel):
    """The outcome of a change of a support set."""

    head: Annotated[str, Field(examples=["pets"])]
    version: Annotated[int | None, Field(description="The new version; null if none was trained.")]
    published: Annotated[bool, Field(description="Whether that version is served now.")]
    task: Task
    keep_inputs: KeepInputs
    classes: list[str]
    extractor: ExtractorRef
    layers: Annotated[list[str] | None, Field(description="Layers that the new version uses.")]
    examples: ExampleCounts
    report: Annotated[dict[str, Any] | None, Field(description="Cross-validated quality of the new version.")]
    warnings: list[TrainingWarning]
    timings_ms: dict[str, float]


class ClassCount(BaseModel):
    label: str
    examples: int


class HeadSummary(BaseModel):
    head: str
    task: Task
    extractor: ExtractorRef
    published_version: int | None
    last_version: int | None
    classes: list[ClassCount]
    negatives: Annotated[int, Field(description="Examples of none of the classes (label `__none__`).")]
    examples: Annotated[int, Field(description="All examples; each label of an input is one.")]
    keep_inputs: KeepInputs
    created_at: str
    updated_at: str
    published_classes: Annotated[
        list[str], Field(description="Classes that the published version tells apart; none without one.")
    ]


class HeadDescription(HeadSummary):
    up_to_date: Annotated[
        bool, Field(description="Whether the published version was trained from the support set as it is.")
    ]
    layers: Annotated[list[str] | None, Field(description="Layers that the published version uses.")]
    report: dict[str, Any] | None
    warnings: list[TrainingWarning]


class HeadPage(BaseModel):
    heads: list[HeadSummary]
    next: str | None
