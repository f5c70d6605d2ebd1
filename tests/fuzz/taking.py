"""Head archives taken by a whole engine, of a home of its own: what is taken can be told and given on.

Knows no mutation.
"""

import tempfile
import zlib
from functools import cache
from pathlib import Path
from typing import IO

from service.config import Settings
from service.engine import Engine
from service.errors import ApiError, api_error
from service.exchange.head_archive.reading import Limits, check_archive
from service.http.envelope import answer
from service.learning.train_options import TrainOptions
from service.preparation import prepare
from service.routes.heads import describe_head
from service.routes.versions import describe_version
from service.store import MULTI_LABEL, SINGLE_LABEL
from tests.service.conftest import batch, tiny_extractor
from tests.service.images import png
from tests.service.ingest.asking import check_refusal
from training.errors import HeadstartError

NAME = "taken"
LIMITS = Limits(head_bytes=1 << 20, input_bytes=1 << 14)
LABELLED = [
    (label, png(shade)) for label, shades in (("cat", (10, 11)), ("dog", (200, 201))) for shade in shades
]


@cache
def engine() -> Engine:
    """Once for a process, since it has threads; where the process keeps what is temporary."""
    folder = Path(tempfile.mkdtemp())
    settings = Settings(
        home=folder / "home",
        extractors=(str(tiny_extractor(folder / "tiny")),),
        threads=1,
        max_body_bytes=LIMITS.head_bytes,
        max_input_bytes=LIMITS.input_bytes,
    )
    prepare(settings)
    return Engine.start(settings)


def head_archives() -> list[bytes]:
    """Archives of a head that keeps its inputs, and of one of several labels that keeps none."""
    found = []
    for task, keep in ((SINGLE_LABEL, True), (MULTI_LABEL, False)):
        engine().learner.replace(
            NAME,
            batch(*LABELLED),
            extractor=None,
            task=task,
            keep_inputs=keep,
            train=TrainOptions(),
            skip_bad=False,
        )
        found.append(_written())
        engine().store.heads.delete(NAME)
    return found


def run_head_archive(data: bytes) -> None:
    """What is refused is so as documented, and leaves nothing; what is taken can be told, trained, given on.

    Of what the reader lets through one in sixteen is taken, since the database takes longer than all else.
    """
    further, lot = divmod(zlib.crc32(data), 16)
    try:
        with _file_of(data) as file:
            check_archive(file, LIMITS)
            if lot:
                return
            engine().archives.take(NAME, file)
    except (ApiError, HeadstartError) as error:
        _require_refusal(error)
    else:
        answer(describe_head(engine(), NAME))
        answer(describe_version(engine(), NAME, 1))
        (_train if further % 2 else _give_on)()
        engine().store.heads.delete(NAME)
    if not lot:
        _require_nothing()


def _file_of(data: bytes) -> IO[bytes]:
    file = engine().archives.place()
    file.write(data)
    file.flush()
    return file


def _give_on() -> None:
    written = _written()
    engine().store.heads.delete(NAME)
    with _file_of(written) as file:
        engine().archives.take(NAME, file)
    assert _written() == written


def _written() -> bytes:
    with engine().archives.write(NAME, 1).file as file:
        return file.read()


def _train() -> None:
    try:
        engine().learner.train(NAME, TrainOptions(said=frozenset()))
        answer(describe_head(engine(), NAME))
    except (ApiError, HeadstartError) as error:
        _require_refusal(error)


def _require_refusal(error: ApiError | HeadstartError) -> None:
    check_refusal(error if isinstance(error, ApiError) else api_error(error))


def _require_nothing() -> None:
    store = engine().store
    assert store.heads.find(NAME) is None
    assert next(iter(store.blobs.entries("inputs")), None) is None
