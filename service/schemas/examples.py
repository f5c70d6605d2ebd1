"""The answers about examples, as pydantic models: for the documentation. Knows names and types only."""

from typing import Annotated

from pydantic import BaseModel, Field


class ExampleInfo(BaseModel):
    id: str
    label: str
    source_id: Annotated[str | None, Field(description="The caller's id or file name.")]
    sha256: str
    size_bytes: int
    created_at: str
    kept: Annotated[bool, Field(description="Whether its original bytes are kept: `.../input` gives them.")]


class ExamplePage(BaseModel):
    examples: list[ExampleInfo]
    next: int | None
