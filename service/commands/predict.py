"""`headstart predict`: what a head says of each image of a folder, here or by a running server.

Knows what the user types and reads; predicts nothing.
"""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from service.commands.arguments import new_file
from service.commands.folder import (
    STANDARD_OUTPUT,
    Place,
    embed_with_bar,
    end,
    images_of,
    require_some,
    with_place,
    written,
)
from service.commands.terminal import FOLDER, read_settings, told
from service.config import Settings

if TYPE_CHECKING:
    from training.folder_embedding import UnusableFile
    from training.heads import Head

FORMATS = ("csv", "ndjson")
COLUMNS = ("path", "label", "probability", "unknown", "typicality", "labels", "none_probability")
LABELS_BETWEEN = "|"
Predictions = Mapping[Path, dict[str, Any]]


def _output(text: str) -> Path:
    return STANDARD_OUTPUT if text == "-" else new_file(text)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (colon and name.strip()):
        raise click.BadParameter(f"expected 'Name: value', found {text!r}")
    return name.strip(), value.strip()


@click.command("predict")
@click.argument("head")
@click.argument("folder", type=FOLDER)
@click.option("--url", metavar="URL", help="A running server, which then has the head of that name.")
@click.option(
    "--header", type=_header, multiple=True, metavar="'NAME: VALUE'", help="Sent to the server, for a key."
)
@click.option(
    "--output", type=_output, metavar="FILE", default="-", help="File to write.  [default: standard output]"
)
@click.option(
    "--format", "kind", type=click.Choice(FORMATS), help="Of the output.  [default: by its name, else csv]"
)
@click.option(
    "--top-k",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="Most probabilities of an image, in ndjson.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Typicality below which an image is unknown.  [default: the head's own]",
)
@click.option("--extractor", help="Name or folder of the head's extractor.  [default: found by its digest]")
@with_place
def command(
    head: str,
    folder: Path,
    url: str | None,
    header: tuple[tuple[str, str], ...],
    output: Path,
    kind: str | None,
    top_k: int,
    threshold: float | None,
    extractor: str | None,
    place: Place,
) -> None:
    """Predict the images of FOLDER, however deep, with HEAD.

    HEAD is a head file (`GET /v1/heads/NAME/export`), and all is done here, or with --url the name of a head
    of a running server, which does it. Embeddings are kept under HEADSTART_HOME/cache, or by the server, so
    that a command that was stopped or killed goes on.

    Exit code 3: done, but some images could not be used.
    """
    paths = images_of(folder)
    if url is not None:
        found, left_out = _asked(url, head, paths, dict(header), top_k, threshold)
    else:
        found, left_out = _here(Path(head), paths, extractor, place, top_k, threshold)
    require_some(found, left_out)
    with told(), _opened(output) as stream:
        _write(stream, kind or _kind_of(output), folder, found)
    end(folder, f"{len(found)} images", left_out, output)


def _asked(
    url: str,
    head: str,
    paths: Sequence[Path],
    headers: Mapping[str, str],
    top_k: int,
    threshold: float | None,
) -> tuple[Predictions, "list[UnusableFile]"]:
    from tqdm import tqdm

    from service.commands.asking import Asked
    from training.folder_embedding import UnusableFile

    options = {"top_k": top_k, **({} if threshold is None else {"threshold": threshold})}
    found: dict[Path, dict[str, Any]] = {}
    left_out: list[UnusableFile] = []
    with tqdm(total=len(paths), desc="asking", unit="image") as bar:
        for path, answer in Asked(url, head, options, headers).ask(paths):
            bar.update()
            if isinstance(answer, str):
                left_out.append(UnusableFile(path, answer))
            else:
                found[path] = answer
    return found, left_out


def _here(
    file: Path,
    paths: Sequence[Path],
    extractor: str | None,
    place: Place,
    top_k: int,
    threshold: float | None,
) -> tuple[Predictions, "list[UnusableFile]"]:
    from service.prediction.head_answer import head_answer
    from training.folder_embedding import UnusableFile
    from training.heads import load_head

    if not file.is_file():
        raise click.ClickException(f"{file} is not a file; for a head of a running server give its --url")
    settings = read_settings()
    with told():
        head = load_head(file.read_bytes())
    source = _extractor_of(head, settings, extractor)
    found: dict[Path, dict[str, Any]] = {}
    left_out: list[UnusableFile] = []
    for one in embed_with_bar(source, paths, settings, place):
        if isinstance(one, UnusableFile):
            left_out.append(one)
        else:
            found[one.path] = head_answer(head.predict(one.row[None], threshold), 0, top_k)
    return found, left_out


def _extractor_of(head: "Head", settings: Settings, name: str | None) -> Path:
    """The folder of the extractor that the head was fitted on."""
    folders = [settings.extractor_folder(name)] if name else list(_extractor_folders(settings))
    for folder in folders:
        if _digest_of(folder) == head.extractor_digest:
            return folder
    where = ", ".join(map(str, folders)) or "none"
    raise click.ClickException(
        f"the head was fitted on the extractor {head.extractor_digest}, which is none of {where}:"
        " give its folder by --extractor"
    )


def _extractor_folders(settings: Settings) -> Iterable[Path]:
    yield from map(settings.extractor_folder, settings.extractors)
    for root in (settings.home / "extractors", settings.home / "cache" / "extractors"):
        yield from sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else ()


def _digest_of(folder: Path) -> str | None:
    from training.errors import ManifestError
    from training.manifest import Manifest

    try:
        return Manifest.load(folder).digest
    except ManifestError:
        return None


def _kind_of(output: Path) -> str:
    return "ndjson" if output.suffix.lower() in {".ndjson", ".jsonl"} else FORMATS[0]


@contextmanager
def _opened(output: Path) -> Iterator[TextIO]:
    if output == STANDARD_OUTPUT:
        yield sys.stdout
        return
    with written(output) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        yield stream


def _write(stream: TextIO, kind: str, folder: Path, found: Predictions) -> None:
    """The predictions in the order of their paths."""
    rows = [{"path": path.relative_to(folder).as_posix(), **answer} for path, answer in sorted(found.items())]
    if kind == "ndjson":
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return
    columns = [column for column in COLUMNS if any(column in row for row in rows)]
    writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        labels = {"labels": LABELS_BETWEEN.join(row["labels"])} if "labels" in row else {}
        writer.writerow({**row, "unknown": json.dumps(row["unknown"]), **labels})
