"""The answer of everything other than 2xx, as pydantic models. Knows names and types only."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class ItemProblem(BaseModel):
    index: int
    id: str | None
    label: str | None
    code: str
    message: str


class ErrorDetail(BaseModel):
    model_config = ConfigDict(extra="allow")

    code: Annotated[str, Field(examples=["head_not_found"])]
    message: Annotated[str, Field(examples=["there is no head 'pets'"])]
    param: Annotated[str | None, Field(examples=["name"])]
    request_id: Annotated[str, Field(examples=["4f1c0a6d2b7e4c53"])]
    items: Annotated[list[ItemProblem], Field(description="The bad inputs of a batch, by index.")] = []


class ErrorAnswer(BaseModel):
    """Every answer other than 2xx."""

    error: ErrorDetail
