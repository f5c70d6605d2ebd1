"""`headstart export`: a pretrained network as an extractor folder. Needs torch unless it is there already."""

from pathlib import Path

import click

from service.commands.terminal import FILE, FOLDER, progress_bar, read_settings, told
from training.image_folder import images_under


@click.command("export")
@click.argument("name", default="efficientnet-lite0")
@click.option("--weights", type=FILE, help="Local file of the weights, for a machine that reaches no hub.")
@click.option("--sha256", help="Refuse the weights file unless it has this sha256.")
@click.option("--random-seed", type=int, help="Random weights, to try an architecture without its own.")
@click.option("--images", type=FOLDER, help="Images on which the export must agree with torch.")
@click.option(
    "--taps/--no-taps",
    default=True,
    show_default=True,
    help="Whether heads can also use earlier layers, which the same pass gives.",
)
@click.option("--force", is_flag=True, help="Export again even if the extractor is there.")
def command(
    name: str,
    weights: Path | None,
    sha256: str | None,
    random_seed: int | None,
    images: Path | None,
    taps: bool,
    force: bool,
) -> None:
    """Export a pretrained network as an extractor folder: HEADSTART_HOME/extractors/NAME.

    A second run does nothing.
    """
    from training.export import export_extractor

    folder = read_settings().extractor_folder(name)
    with told(), progress_bar(f"exporting {name}") as show:
        manifest = export_extractor(
            name,
            folder,
            weights_path=weights,
            weights_sha256=sha256,
            random_seed=random_seed,
            parity_images=_parity_images(images),
            progress=show,
            force=force,
            taps=taps,
        )
    layers = ", ".join(f"{tap.name} {tap.dim}" for tap in manifest.taps) or "no taps"
    click.echo(f"{folder} digest {manifest.digest[:12]}, {manifest.output.dim} dimensions, {layers}")


def _parity_images(folder: Path | None) -> tuple[Path, ...]:
    found = () if folder is None else images_under(folder)
    if folder is not None and not found:
        raise click.BadParameter(f"no images in {folder}", param_hint="--images")
    return found
