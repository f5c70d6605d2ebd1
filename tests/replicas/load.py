"""Clients that predict, read and add examples through the balancer until they are told to stop.

Predictions and reads are sent once: what is not answered 200 counts as failed. Each added example has an
`Idempotency-Key`, and is sent again with it after a failure, which counts as well: in the end as many must
be there as were added. Clients keep their connections, and look whether one was closed before they use
it again, as HTTP libraries do.
"""

import http.client
import itertools
import json
import select
import threading
import time
from collections import Counter
from types import TracebackType
from urllib.parse import urlsplit

from tests.service.images import png

HEAD = "pets"
PATIENCE_S = 60.0
TIMEOUT_S = 60
PAUSE_S = 0.15  # between two requests of a client: the load leaves the cores to those who start
READ_EVERY, WRITE_EVERY = 5, 7


class Load:
    """Some clients, each with a thread, for the length of a block.

    Attributes
    ----------
    answered : requests by kind and outcome: the status, or the name of the exception.
    added : examples that were added, by the word of the server.
    """

    def __init__(self, url: str, *, clients: int = 6, first: int = 0) -> None:
        self.answered: Counter[tuple[str, str]] = Counter()
        self.added = 0
        self._address = urlsplit(url)
        self._numbers = itertools.count(1_000_000 + first * 256)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._clients = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]

    def __enter__(self) -> "Load":
        for client in self._clients:
            client.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for client in self._clients:
            client.join()

    @property
    def requests(self) -> int:
        return self.answered.total()

    def failed(self, kind: str | None = None) -> Counter[tuple[str, str]]:
        """What was answered otherwise than it should have been, of one kind of request or all."""
        return Counter(
            {
                (each, outcome): number
                for (each, outcome), number in self.answered.items()
                if outcome not in ("200", "201") and kind in (None, each)
            }
        )

    def answer_some(self, number: int) -> None:
        """Wait until so many more requests have been answered as they should."""
        deadline = time.monotonic() + PATIENCE_S
        wanted = self.requests - self.failed().total() + number
        while self.requests - self.failed().total() < wanted:
            assert time.monotonic() < deadline, self.answered
            time.sleep(0.02)

    def _ask(self, client: int) -> None:
        connection = http.client.HTTPConnection(
            str(self._address.hostname), self._address.port, timeout=TIMEOUT_S
        )
        for number in itertools.count(client):
            if self._stop.wait(PAUSE_S):
                break
            if number % WRITE_EVERY == 0:
                self._add(connection)
            elif number % READ_EVERY == 0:
                self._request(connection, "read", "GET", f"/v1/heads/{HEAD}")
            else:
                self._request(
                    connection, "predict", "POST", f"/v1/heads/{HEAD}/predict", png(next(self._numbers))
                )
        connection.close()

    def _add(self, connection: http.client.HTTPConnection) -> None:
        """An example, sent again until the server has it for certain."""
        number = next(self._numbers)
        headers = {"Idempotency-Key": f"example-{number}"}
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            path = f"/v1/heads/{HEAD}/examples?label=dark&train=false"
            status, body = self._request(connection, "add", "POST", path, png(number), headers)
            code = json.loads(body)["error"]["code"] if body and status >= 400 else ""
            if status in (200, 201) or code == "answer_lost":
                with self._lock:
                    self.added += 1
                return
            assert status in (0, 409, 503), (status, body)
            time.sleep(0.2)
        raise AssertionError("an example could not be added")

    def _request(
        self,
        connection: http.client.HTTPConnection,
        kind: str,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Status and body; status 0 where there was no answer."""
        _leave_if_closed(connection)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            answer = response.read()
            status, outcome = response.status, str(response.status)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            answer, status, outcome = b"", 0, type(error).__name__
        with self._lock:
            self.answered[kind, outcome] += 1
        return status, answer


def _leave_if_closed(connection: http.client.HTTPConnection) -> None:
    """A connection that has something to say before it was asked has been closed."""
    if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
        connection.close()
