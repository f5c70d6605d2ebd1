"""A running server asked about files, some in each request. Knows HTTP and the answers of `.../predict`.

A server that is busy is asked again when it says so. What it has embedded it keeps, so that asking again
after a stop costs little.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import httpx

Answer = tuple[Path, dict[str, Any] | str]  # a prediction, or what is wrong with the file

FILES_PER_REQUEST = 16
REQUESTS_AT_ONCE = 4
TIMEOUT_S = 600.0
ATTEMPTS = 8
BUSY = frozenset({429, 503, 504})
LONGEST_PAUSE_S = 30.0


class Asked:
    """One head of a server.

    Parameters
    ----------
    url : of the server.
    head : name of the head.
    options : query parameters.
    headers : such as those of a key.
    """

    def __init__(self, url: str, head: str, options: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self._url = f"{url.rstrip('/')}/v1/heads/{head}/predict"
        self._options = {**options, "on_error": "skip"}
        limits = httpx.Limits(max_connections=REQUESTS_AT_ONCE)
        self._client = httpx.Client(
            timeout=TIMEOUT_S, headers={**headers, "Accept": "application/x-ndjson"}, limits=limits
        )

    def ask(self, paths: Sequence[Path]) -> Iterator[Answer]:
        """The answer about each file, as they come.

        Raises
        ------
        click.ClickException
            The server cannot be reached or refuses; the message says why.
        """
        parts = [paths[at : at + FILES_PER_REQUEST] for at in range(0, len(paths), FILES_PER_REQUEST)]
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            try:
                for answers in pool.map(self._part, parts):
                    yield from answers
            finally:
                pool.shutdown(cancel_futures=True)
                self._client.close()

    def _part(self, paths: Sequence[Path]) -> list[Answer]:
        answers: list[Answer] = []
        files: list[tuple[Path, bytes]] = []
        for path in paths:
            try:
                files.append((path, path.read_bytes()))
            except OSError as error:
                answers.append((path, f"it cannot be read: {error.strerror}"))
        if files:
            lines = self._lines([("image", ("image", data)) for _, data in files])
            answers += [(files[line["index"]][0], _content(line)) for line in lines]
        return answers

    def _lines(self, files: list[tuple[str, tuple[str, bytes]]]) -> list[dict[str, Any]]:
        """The lines of one request but for its summary."""
        for attempt in range(ATTEMPTS):
            try:
                answer = self._client.post(self._url, params=self._options, files=files)
            except httpx.HTTPError as error:
                raise click.ClickException(f"{self._url}: {error}") from error
            if answer.status_code == 200:
                *lines, last = [json.loads(line) for line in answer.text.splitlines()]
                if "summary" in last:
                    return lines
                raise click.ClickException(f"{self._url}: {last['error']['message']}")
            if answer.status_code not in BUSY:
                break
            time.sleep(_pause_s(answer, attempt))
        raise click.ClickException(f"{self._url}: {_reason(answer)}")


def _content(line: dict[str, Any]) -> dict[str, Any] | str:
    if "error" in line:
        return str(line["error"]["message"])
    return {key: value for key, value in line.items() if key not in ("id", "index")}


def _pause_s(answer: httpx.Response, attempt: int) -> float:
    try:
        return min(float(answer.headers["Retry-After"]), LONGEST_PAUSE_S)
    except (KeyError, ValueError):
        return min(2.0**attempt, LONGEST_PAUSE_S)


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {answer.status_code}"
