"""`headstart restore`: what `headstart backup` wrote, into a home."""

from pathlib import Path

import click

from service.commands.terminal import read_settings, told


@click.command("restore")
@click.argument("path", metavar="FILE_OR_FOLDER", type=click.Path(exists=True, path_type=Path))
@click.option("--replace", "replace_all", is_flag=True, help="Delete what the home has now.")
def command(path: Path, replace_all: bool) -> None:
    """Verify a backup and bring the home (HEADSTART_HOME, ..._DATABASE_URL, ..._BLOB_URL) to what it holds.

    Stop the servers first. A restore that is cut off leaves no head; run it again.
    """
    from service.backup import restore

    settings = read_settings()
    with told():
        done = restore(settings, path.absolute(), replace_all=replace_all)
    click.echo(f"restored the state of {done.contents.created_at}: {done.blobs} blobs")
    for name in done.extractors:
        click.echo(f"extractor {name}")
