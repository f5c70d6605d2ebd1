"""The answers about the server, as pydantic models: for the documentation. Knows names and types only."""

from typing import Literal

from pydantic import BaseModel, Field

from service.schemas.extractors import ExtractorInfo


class HealthAnswer(BaseModel):
    status: Literal["ok"]


class DeviceInfo(BaseModel):
    """A process that owns a device, for all API processes."""

    pid: int
    providers: list[str] = Field(description="What onnxruntime calls the device.")
    batch_sizes: list[int]
    graphs: int = Field(description="Loaded networks.")
    batches: int = Field(description="Batches run since it was started.")
    images: int = Field(description="Images of these batches.")
    waiting: int = Field(description="Images that wait for the device now.")


class ReadyAnswer(BaseModel):
    status: Literal["ready"]
    extractors: list[ExtractorInfo]
    devices: list[DeviceInfo] = Field(description="None where each process uses the device itself.")
