"""`headstart embed`: the embeddings of a folder of images, as a file for numpy and whatever reads it.

Knows what the user types and reads; embeds nothing.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from service.commands.arguments import new_file
from service.commands.folder import Place, embed_with_bar, end, images_of, require_some, with_place, written
from service.commands.terminal import FOLDER, read_settings, told

if TYPE_CHECKING:
    from training.folder_embedding import EmbeddedFile
    from training.manifest import Manifest

FORMATS = ("npz", "safetensors")


@click.command("embed")
@click.argument("folder", type=FOLDER)
@click.option("--output", type=new_file, metavar="FILE", required=True, help="File to write.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    help="Of the file.  [default: by its name, else npz]",
)
@click.option("--extractor", help="Name or folder of an extractor.  [default: that of the server]")
@click.option("--taps", is_flag=True, help="The earlier layers of the network too, each under its name.")
@with_place
def command(
    folder: Path, output: Path, kind: str | None, extractor: str | None, taps: bool, place: Place
) -> None:
    """Embed the images of FOLDER, however deep, into one file.

    It has `embeddings`, a row for each image, with `paths` within the folder and `sha256` beside them. Rows
    are kept under HEADSTART_HOME/cache while they come, so that a command that was stopped or killed goes on.

    Exit code 3: done, but some images could not be used.
    """
    from training.folder_embedding import EmbeddedFile, UnusableFile
    from training.manifest import Manifest

    settings = read_settings()
    source = settings.extractor_folder(extractor or settings.extractors[0])
    paths = images_of(folder)
    embedded: list[EmbeddedFile] = []
    left_out: list[UnusableFile] = []
    for found in embed_with_bar(source, paths, settings, place):
        if isinstance(found, EmbeddedFile):
            embedded.append(found)
        else:
            left_out.append(found)
    require_some(embedded, left_out)
    embedded.sort(key=lambda one: one.path)
    with told():
        _write(output, kind or _kind_of(output), Manifest.load(source), embedded, folder, taps)
    cached = sum(one.cached for one in embedded)
    end(folder, f"{len(embedded)} images, {cached} from the cache", left_out, output)


def _kind_of(output: Path) -> str:
    suffix = output.suffix.removeprefix(".").lower()
    return suffix if suffix in FORMATS else FORMATS[0]


def _write(
    output: Path,
    kind: str,
    manifest: "Manifest",
    embedded: "Sequence[EmbeddedFile]",
    folder: Path,
    taps: bool,
) -> None:
    rows = np.stack([one.row for one in embedded])
    arrays, start = {}, 0
    for name, dim in manifest.layer_dims.items():
        if start == 0 or taps:
            key = "embeddings" if start == 0 else name
            arrays[key] = np.ascontiguousarray(rows[:, start : start + dim])
        start += dim
    paths = [one.path.relative_to(folder).as_posix() for one in embedded]
    digests = [one.sha256 for one in embedded]
    with written(output) as partial:
        if kind == "safetensors":
            from safetensors.numpy import save_file

            about = {"extractor": manifest.name, "digest": manifest.digest}
            save_file(arrays, partial, {**about, "paths": json.dumps(paths), "sha256": json.dumps(digests)})
            return
        with partial.open("wb") as stream:
            np.savez(
                stream,
                allow_pickle=False,
                paths=np.array(paths),
                sha256=np.array(digests),
                extractor=np.array(manifest.name),
                digest=np.array(manifest.digest),
                **arrays,
            )
