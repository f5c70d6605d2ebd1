"""The answers about access, as pydantic models: for the documentation. Knows names and types only."""

from typing import Annotated, Any

from pydantic import BaseModel, Field


class AuditEntry(BaseModel):
    id: Annotated[int, Field(description="Ascending with time, with gaps.")]
    at: str
    tenant: Annotated[str, Field(examples=["default"])]
    actor: Annotated[
        str, Field(description="`key ID`, `anonymous`, `worker NAME`, or `local`: a command on the server.")
    ]
    request_id: Annotated[str | None, Field(description="The `X-Request-ID` of the request, if it was one.")]
    action: Annotated[
        str, Field(description="What was done, or the operation that was refused.", examples=["head.create"])
    ]
    target: Annotated[str | None, Field(description="Name of the head, key or extractor.", examples=["pets"])]
    outcome: Annotated[str, Field(description="`ok`, or the code of the error.", examples=["ok"])]
    detail: dict[str, Any]


class AuditPage(BaseModel):
    events: list[AuditEntry]
    next: int | None
