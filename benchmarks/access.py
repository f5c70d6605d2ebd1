"""What the door costs a request: the lookup of a key, a rate limit, and the engine of a caller.

Processor time of one thread on SQLite, the best of several rounds, beside the one read by which a prediction
learns the published version. Prints a table, then one JSON line. No socket and no network are in it.

python -m benchmarks.access
"""

import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert

from benchmarks.server import EXTRACTOR
from service.access.door import identify
from service.access.secrets import Secret
from service.config import Settings
from service.engine import Engine
from service.preparation import prepare
from service.store import Caller, NewKey
from service.store.tables import api_keys

ROUNDS = 5
CALLS = 500
MANY_KEYS = 20_000
NO_LIMIT = (1e9, 10**9)


def microseconds(call: Callable[[], object]) -> float:
    """Processor time of one call."""
    laps = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(CALLS):
            call()
        laps.append((time.process_time() - start) / CALLS)
    return round(1e6 * min(laps), 1)


def header(engine: Engine, rate: tuple[float | None, int | None] = (None, None)) -> str:
    """Make a key, and the header that sends it."""
    secret = Secret.new()
    engine.store.keys.add(NewKey(secret.id, "default", "train", secret.digest, None, *rate))
    return f"Bearer {secret.text}"


def measure(engine: Engine) -> dict[str, float]:
    def asking(given: str | None) -> Callable[[], object]:
        return lambda: identify(engine.store, given, "request", is_local=True)

    figures = {
        "read of a published version": microseconds(lambda: engine.store.heads.find("pets")),
        "engine of a caller": microseconds(lambda: engine.of(Caller())),
        "no key": microseconds(asking(None)),
        "key": microseconds(asking(header(engine))),
        "key with a rate limit": microseconds(asking(header(engine, NO_LIMIT))),
    }
    fill(engine)
    figures[f"key among {MANY_KEYS}"] = microseconds(asking(header(engine)))
    return figures


def fill(engine: Engine) -> None:
    now = datetime.now(UTC)
    shared = {"tenant": "default", "scope": "train", "secret_sha256": "0" * 64, "created_at": now}
    rows = [{"id": f"{number:016x}", **shared} for number in range(MANY_KEYS)]
    with engine.store.keys._database.write() as connection:
        connection.execute(insert(api_keys), rows)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), extractors=(str(EXTRACTOR),), threads=1)
        prepare(settings)
        engine = Engine.start(settings)
        try:
            figures = measure(engine)
        finally:
            engine.close()
    for name, value in figures.items():
        print(f"{name:<30} {value:8.1f} us")
    print(json.dumps({"benchmark": "access", "unit": "us", **figures}))


if __name__ == "__main__":
    main()
