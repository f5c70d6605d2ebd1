"""The answers about jobs, as pydantic models: for the documentation. Knows names and types only."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.schemas.heads import TrainingWarning
from service.store import JobState


class JobProgress(BaseModel):
    fraction: Annotated[float, Field(description="Share of the work that is done, 0 to 1.")]
    stage: Annotated[str | None, Field(examples=["train"])]
    epoch: Annotated[int | None, Field(description="The epoch that was reported last.")]
    epochs: int | None


class JobError(BaseModel):
    code: str
    message: str


class JobSummary(BaseModel):
    id: Annotated[str, Field(examples=["8f14e45fceea167a5a36dedd4bea2543"])]
    kind: Annotated[str, Field(examples=["finetune"])]
    head: Annotated[str, Field(examples=["pets"])]
    state: JobState
    progress: JobProgress
    attempts: Annotated[int, Field(description="How often a worker has begun it.")]
    worker: Annotated[str | None, Field(description="Who has it now: host, process id, token.")]
    cancel_requested: bool
    error: Annotated[JobError | None, Field(description="Why it failed.")]
    created_at: str
    started_at: str | None
    finished_at: str | None


class JobDescription(JobSummary):
    options: dict[str, Any]
    result: Annotated[dict[str, Any] | None, Field(description="Of a job that succeeded.")]
    warnings: Annotated[
        list[TrainingWarning],
        Field(description="`no_worker`: the job waits, and no worker was seen in the last minute."),
    ]


class JobPage(BaseModel):
    jobs: list[JobSummary]
    next: int | None
