"""The answer with embeddings, as pydantic models: for the documentation. Knows names and types only."""

from typing import Literal

from pydantic import BaseModel


class EmbeddingItem(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingAnswer(BaseModel):
    """The OpenAI shape, with what the cache did and how long it took."""

    object: Literal["list"]
    model: str
    data: list[EmbeddingItem]
    usage: EmbeddingUsage
    embedded: int
    cached: int
    timings_ms: dict[str, float]
