"""Which requests with inputs are let in, and the threads that answer them.

A process takes a bounded number of them at once; more are told to come back later. Each has a time that it
may take. Knows no route and no network.
"""

import asyncio
import contextvars
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import ParamSpec, TypeVar

from starlette.requests import Request

from service import metrics
from service.errors import ApiError
from service.waiting.crew import Crew
from service.waiting.gathering import Gathering
from service.waiting.patience import Patience, current_patience, set_patience

P = ParamSpec("P")
T = TypeVar("T")
Submit = Callable[[Callable[[], object]], object]

TIMEOUT_HEADER = "X-Request-Timeout-S"
# A client that goes while its answer is made is looked for only if that takes as long as this.
WATCH_AFTER_S = 0.25
# Of a request that waits for its turn outside of a thread; those of larger ones work beside each other.
FEW_INPUTS = 4
# The share of the time of a request that may pass until its turn: the rest is for what cannot be foreseen.
WORTH_WAITING = 0.7
LONGEST_TIMER_S = 86_400.0
MIN_RETRY_AFTER_S = 1
MAX_RETRY_AFTER_S = 60


class Admission:
    """Of one process; used on its event loop only, but for `close`.

    Parameters
    ----------
    most : how many requests with inputs are in progress at once.
    gathering : what those that are answered wait for.
    timeout_s : how long each of them may take, in seconds.
    """

    def __init__(self, *, most: int, gathering: Gathering, timeout_s: float) -> None:
        self._most = most
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="request")
        self._brief = Crew(gathering.at_once, "brief")
        self._gathering = gathering
        self._admitted: set[Patience] = set()
        self._answering = 0
        self._typical_s = 0.0

    @property
    def in_progress(self) -> int:
        return len(self._admitted)

    @property
    def answering(self) -> int:
        """How many of them have been read, and are answered now or wait for that."""
        return self._answering

    def admit(self, request: Request) -> "Place":
        """Let a request in for the length of a block, with the patience of its header or of the settings.

        Raises
        ------
        ApiError
            429 `queue_full`: too many are in progress, or too many for the time that it may take. 422
            `invalid_parameter`: the header is no time.
        """
        patience = Patience(_allowed_s(request, self._timeout_s))
        if len(self._admitted) >= self._most:
            message = (
                f"{self._most} requests with inputs are in progress here, as many as may be; try again later"
            )
            raise self._full(message)
        self._require_time(patience)
        self._admitted.add(patience)
        metrics.IN_PROGRESS.inc()
        set_patience(patience)
        return Place(self, patience)

    def leave(self, patience: Patience) -> None:
        """The end of a request that was let in."""
        self._admitted.discard(patience)
        metrics.IN_PROGRESS.dec()
        self._typical_s += 0.1 * (time.monotonic() - patience.since - self._typical_s)

    async def answer(self, request: Request, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the work of an admitted request in a thread; it is given up if the client goes."""
        return await self._answer(self._threads.submit, request, partial(work, *args, **kwargs))

    async def answer_brief(
        self, request: Request, inputs: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `answer`, for work that does nothing slow but embed so many inputs.

        If they are few, it waits for one of a few threads, rather than in a thread for its turn.

        Raises
        ------
        ApiError
            429 `queue_full`: while its body was read, too many came for the time that it may take.
        """
        self._require_time(current_patience())
        if inputs > FEW_INPUTS:
            return await self.answer(request, work, *args, **kwargs)
        return await self._answer(self._brief.submit, request, partial(self._present, work, *args, **kwargs))

    def _present(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._gathering.presence():
            return work(*args, **kwargs)

    async def _answer(self, submit: Submit, request: Request, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[T] = loop.create_future()
        patience = current_patience()
        start = time.perf_counter()
        has_begun = False
        watch: asyncio.Task[None] | None = None
        timer: asyncio.TimerHandle

        def begin() -> None:
            nonlocal has_begun
            has_begun = True
            if answered.done():
                return  # given up before
            try:
                metrics.observe_stage("wait", time.perf_counter() - start)
                patience.require()
                answer = work()
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is for who waits
                _tell(loop, _fail, answered, error)
            else:
                _tell(loop, _settle, answered, answer)

        def look() -> None:
            nonlocal timer, watch
            if patience.left_s > 0:
                watch = watch or loop.create_task(_watch(request, patience))
                timer = loop.call_later(min(patience.left_s, LONGEST_TIMER_S), look)
            elif not has_begun:
                answered.cancel()

        self._answering += 1
        submit(partial(contextvars.copy_context().run, begin))
        timer = loop.call_later(min(patience.left_s, WATCH_AFTER_S), look)
        try:
            return await answered
        except asyncio.CancelledError:
            if patience.left_s <= 0 and not patience.gone:
                raise patience.expired() from None
            patience.gone = True
            raise
        finally:
            self._answering -= 1
            timer.cancel()
            if watch is not None:
                watch.cancel()

    def close(self) -> None:
        """Give up what is in progress, and let go of the threads."""
        for patience in list(self._admitted):
            patience.gone = True
        self._brief.close()
        self._threads.shutdown()

    def _require_time(self, patience: Patience) -> None:
        """Refuse now what would only be given up later, after work that others wait for."""
        wait_s, allowed_s = self._gathering.turns.wait_s(self._answering), patience.left_s
        if wait_s > WORTH_WAITING * allowed_s:
            message = (
                f"the requests before it take about {wait_s:.1f} s, too long for the {allowed_s:.1f} s that"
                " this one may take; try again later"
            )
            raise self._full(message)

    def _full(self, message: str) -> ApiError:
        retry_after_s = min(max(round(self._typical_s), MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S)
        return ApiError(429, "queue_full", message, headers={"Retry-After": str(retry_after_s)})


class Place:
    """The place of a request that was let in: left at the end of a block, unless it is kept.

    Whoever keeps it leaves it.
    """

    def __init__(self, admission: Admission, patience: Patience) -> None:
        self._admission = admission
        self._patience = patience
        self._is_kept = False

    def keep(self) -> "Place":
        self._is_kept = True
        return self

    def leave(self) -> None:
        self._admission.leave(self._patience)

    def __enter__(self) -> "Place":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_kept:
            self.leave()


def _tell(loop: asyncio.AbstractEventLoop, how: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(partial(how, *args, **kwargs))


def _settle(answered: "asyncio.Future[T]", answer: T) -> None:
    if not answered.done():
        answered.set_result(answer)


def _fail(answered: "asyncio.Future[T]", error: BaseException) -> None:
    if not answered.done():
        answered.set_exception(error)


def _allowed_s(request: Request, most_s: float) -> float:
    text = request.headers.get(TIMEOUT_HEADER)
    if text is None:
        return most_s
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        message = f"{TIMEOUT_HEADER} must be a number of seconds above 0"
        raise ApiError(422, "invalid_parameter", message, param=TIMEOUT_HEADER)
    return min(value, most_s)


async def _watch(request: Request, patience: Patience) -> None:
    """Wait for the client to go. Its body has been read, so that nothing else can come."""
    while not patience.gone:
        message = await request.receive()
        patience.gone = message["type"] == "http.disconnect"
