"""The answers about versions, as pydantic models: for the documentation. Knows names and types only."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.schemas.extractors import ExtractorRef
from service.schemas.heads import TrainingWarning


class VersionSummary(BaseModel):
    version: int
    published: bool
    classes: list[str]
    examples: int
    extractor: Annotated[ExtractorRef, Field(description="The extractor that it was trained on.")]
    parent_version: int | None
    accuracy: float | None
    layers: Annotated[list[str], Field(description="Layers of the extractor that it uses.")]
    imported: Annotated[bool, Field(description="Whether it came as a head file.")]
    created_at: str


class VersionPage(BaseModel):
    versions: list[VersionSummary]
    next: int | None


class VersionDescription(VersionSummary):
    head: str
    options: dict[str, Any]
    report: dict[str, Any]
    warnings: list[TrainingWarning]
