"""What the commands on a folder of images share: its files, the bar, what was left out, and the exit code.

Knows no command.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click

from service.commands.terminal import told
from service.config import Settings

if TYPE_CHECKING:
    from training.folder_embedding import EmbeddedFile, UnusableFile

SOME_LEFT_OUT = 3  # exit code: done, but some images could not be used
MOST_LISTED = 20
STANDARD_OUTPUT = Path("-")
ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Place:
    """Where images are embedded, on how many cores (None: all), and the address of a Ray cluster."""

    engine: str
    processes: int | None
    address: str | None


def with_place(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where it embeds, as its argument `place`."""

    @click.option("--processes", type=click.IntRange(1, 1024), help="[default: one for each core]")
    @click.option(
        "--engine", type=click.Choice(ENGINES), default=ENGINES[0], help="ray: on a Ray cluster, by Ray Data."
    )
    @click.option(
        "--address",
        metavar="HOST:PORT",
        help="Of a Ray cluster that is there, or auto.  [default: one on this machine, for this command]",
    )
    @wraps(command)
    def placed(
        *arguments: Any, engine: str, processes: int | None, address: str | None, **options: Any
    ) -> None:
        if address is not None and engine != "ray":
            raise click.BadParameter("goes with --engine ray", param_hint="--address")
        command(*arguments, place=Place(engine, processes, address), **options)

    return placed


def images_of(folder: Path) -> tuple[Path, ...]:
    """The images of a folder, however deep; an error that the user reads if there is none."""
    from training.image_folder import images_under

    paths = images_under(folder)
    if not paths:
        raise click.ClickException(f"{folder}: expected images, found none")
    return paths


def embed_with_bar(
    extractor: Path, paths: Sequence[Path], settings: Settings, place: Place
) -> Iterator["EmbeddedFile | UnusableFile"]:
    """Embed files with a progress bar on standard error; errors in one line.

    Rows are kept under the home folder.
    """
    from tqdm import tqdm

    with told(), _goes_on(), tqdm(total=len(paths), desc="embedding", unit="image") as bar:
        for found in _embedded(extractor, paths, settings, place):
            bar.update()
            yield found


def _embedded(
    extractor: Path, paths: Sequence[Path], settings: Settings, place: Place
) -> Iterator["EmbeddedFile | UnusableFile"]:
    from training.folder_embedding import embed_files
    from training.preprocess import DecodeLimits
    from training.ray_embedding import embed_files_on_ray

    cache_root = settings.home / "cache" / "embeddings"
    limits = DecodeLimits(settings.max_pixels)
    if place.engine == "ray":
        return embed_files_on_ray(
            extractor, paths, cache_root, actors=place.processes, address=place.address, limits=limits
        )
    processes = place.processes or settings.core_count
    return embed_files(extractor, paths, cache_root, processes=processes, limits=limits)


@contextmanager
def _goes_on() -> Iterator[None]:
    """Whoever stops a command is told that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        raise click.ClickException("stopped: the same command goes on from there") from None
    except BrokenProcessPool as error:
        message = "a process died, perhaps for want of memory: the same command goes on from there"
        raise click.ClickException(message) from error


@contextmanager
def written(output: Path) -> Iterator[Path]:
    """A file beside the output that takes its name at the end, so that the output is whole or absent."""
    partial = output.with_name(f".{output.name}.{uuid4().hex}.partial")
    try:
        yield partial
        partial.rename(output)
    finally:
        partial.unlink(missing_ok=True)


def require_some(found: Collection[object], left_out: Sequence["UnusableFile"]) -> None:
    """An error that the user reads if no image could be used."""
    if not found:
        first = left_out[0]
        message = f"none of {len(left_out)} images could be used; the first: {first.path}: {first.reason}"
        raise click.ClickException(message)


def end(folder: Path, done: str, left_out: Sequence["UnusableFile"], output: Path) -> None:
    """Say what was done and list what was left out, on standard error; exit accordingly."""
    click.echo(f"{done} -> {'standard output' if output == STANDARD_OUTPUT else output}", err=True)
    if not left_out:
        return
    click.echo(f"{len(left_out)} images could not be used:", err=True)
    for left in sorted(left_out, key=lambda one: one.path)[:MOST_LISTED]:
        click.echo(f"  {left.path.relative_to(folder)}: {left.reason}", err=True)
    if len(left_out) > MOST_LISTED:
        click.echo(f"  and {len(left_out) - MOST_LISTED} more", err=True)
    sys.exit(SOME_LEFT_OUT)
