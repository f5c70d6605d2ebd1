"""Long pieces of work for heads, and the worker processes that do them. Knows no HTTP."""

from service.jobs.job import Job, Runner, StoppedError
from service.jobs.presence import Presence
from service.jobs.signals import StopSignals
from service.jobs.worker import Worker

__all__ = ["Job", "Presence", "Runner", "StopSignals", "StoppedError", "Worker"]
