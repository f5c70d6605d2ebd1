"""`headstart backup`: everything that a home remembers, as one folder or tar file, while servers run."""

from pathlib import Path

import click

from service.commands.terminal import read_settings, told


@click.command("backup")
@click.argument("path", metavar="FILE_OR_FOLDER", type=click.Path(path_type=Path))
def command(path: Path) -> None:
    """Write the database, the blobs and the extractors, of one moment, as FILE.tar or FOLDER.

    Servers go on to write meanwhile. It holds users' data: keep it as carefully as the home itself.
    """
    from service.backup import back_up

    settings = read_settings()
    with told():
        written = back_up(settings, path.absolute())
    click.echo(f"{path}: {written.files} files, {written.size_bytes} bytes")
    if written.inputs_gone:
        click.echo(f"{written.inputs_gone} inputs were deleted meanwhile and are not in it", err=True)
