"""How long somebody waits for the answer to a request. Work that nobody waits for any more is given up.

Knows time and nothing else. Travels with a request as a context variable, into the threads that work for it.
"""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field

from service.errors import ApiError


@dataclass(eq=False)
class Patience:
    """Of one request.

    Parameters
    ----------
    allowed_s : how long the client waits, in seconds.
    since : when it began to, on the clock of `time.monotonic`.
    gone : set when the client is, or when the server gives the request up.
    """

    allowed_s: float
    since: float = field(default_factory=time.monotonic)
    gone: bool = False

    @property
    def left_s(self) -> float:
        return 0.0 if self.gone else self.since + self.allowed_s - time.monotonic()

    def require(self) -> None:
        """Raise unless somebody still waits.

        Raises
        ------
        ApiError
            504 `deadline_exceeded`.
        """
        if self.left_s <= 0:
            raise self.expired()

    def expired(self) -> ApiError:
        message = f"the inputs were not embedded within the {self.allowed_s:g} s that the request may take"
        return ApiError(504, "deadline_exceeded", message, headers={"Retry-After": "1"})


ENDLESS = Patience(float("inf"))
_current: ContextVar[Patience] = ContextVar("patience", default=ENDLESS)


def current_patience() -> Patience:
    """Of the request that this thread or task works for; without end where it is none."""
    return _current.get()


def set_patience(patience: Patience) -> None:
    """For this task, and for threads that run in a copy of its context."""
    _current.set(patience)
